module edgefleet.local/cni

go 1.22.0

require github.com/containernetworking/plugins v1.5.1
