// ipset is what the network policy controller calls where the host has none of its own.
package main

import (
	"fmt"
	"os"

	"edgefleet.local/k3s_double/ipset"
)

func main() {
	program := ipset.Program{Kernel: ipset.Linux{}, In: os.Stdin, Out: os.Stdout}
	if err := program.Run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ipset (lab double):", err)
		os.Exit(1)
	}
}
