module edgefleet.local/k3s_double

go 1.22.0

require (
	github.com/klauspost/compress v1.17.7
	golang.org/x/sys v0.18.0
	gopkg.in/yaml.v2 v2.4.0
)
