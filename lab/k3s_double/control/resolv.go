package control

import (
	"net/netip"
	"strings"
)

// AllRoutable says whether a resolv.conf names servers, and only such as a pod can reach too.
func AllRoutable(resolvConf string) bool {
	found := false
	for _, line := range strings.Split(resolvConf, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		address, err := netip.ParseAddr(fields[1])
		if err != nil || !address.IsGlobalUnicast() {
			return false
		}
		found = true
	}
	return found
}
