// Pulumi's Kubernetes provider from its module, which leaves out the generated schema that the release embeds. Programs
// in Python don't ask for it: their classes come from the package pulumi-kubernetes.
package main

import "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"

// version is set by the build: the release that the module's version belongs to.
var version string

func main() {
	provider.Serve("kubernetes", version, []byte(`{"name":"kubernetes"}`), []byte(`{}`))
}
