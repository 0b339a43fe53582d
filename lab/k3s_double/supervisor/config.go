package supervisor

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Config is what agents learn of their server, under K3s's names. There is no token in it, but every argument of the
// control plane's components.
type Config struct {
	ClusterIPRange        *net.IPNet
	ClusterIPRanges       []*net.IPNet
	ServiceIPRange        *net.IPNet
	ServiceIPRanges       []*net.IPNet
	ServiceNodePortRange  PortRange
	ClusterDNS            net.IP
	ClusterDNSs           []net.IP
	ClusterDomain         string
	HTTPSPort             int
	SupervisorPort        int
	DisableCCM            bool
	DisableNPC            bool
	DisableKubeProxy      bool
	FlannelBackend        string
	EgressSelectorMode    string
	EncryptSecrets        bool
	ExtraAPIArgs          []string
	ExtraControllerArgs   []string
	ExtraSchedulerAPIArgs []string
	LocalStoragePath      string // the double's own: the node itself makes the folders
}

// PortRange is written as Kubernetes does it.
type PortRange struct{ Base, Size int }

// NewPortRange is first to last.
func NewPortRange(text string) (PortRange, error) {
	first, last, ok := strings.Cut(text, "-")
	low, errLow := strconv.Atoi(first)
	high, errHigh := strconv.Atoi(last)
	if !ok || errLow != nil || errHigh != nil || low < 1 || high > 65535 || low > high {
		return PortRange{}, fmt.Errorf("invalid service-node-port-range %q: want two ports, such as 30000-32767", text)
	}
	return PortRange{low, high - low + 1}, nil
}

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.Base, r.Base+r.Size-1) }

// Networks reads networks that were checked before.
func Networks(texts []string) ([]*net.IPNet, error) {
	var networks []*net.IPNet
	for _, text := range texts {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// Addresses reads addresses that were checked before.
func Addresses(texts []string) []net.IP {
	var addresses []net.IP
	for _, text := range texts {
		addresses = append(addresses, net.ParseIP(text))
	}
	return addresses
}

// Texts are networks and addresses as they are written.
func Texts[T fmt.Stringer](values []T) []string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, value.String())
	}
	return slices.Clip(texts)
}
