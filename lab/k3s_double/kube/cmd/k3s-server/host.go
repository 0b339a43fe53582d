package main

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/pki"
)

const (
	etcResolvConf     = "/etc/resolv.conf"
	systemdResolvConf = "/run/systemd/resolve/resolv.conf"
)

// prepareKernel loads modules and sets forwarding. Where the host forbids it, it is told and the components decide.
func (d *daemon) prepareKernel() {
	for _, module := range []string{"overlay", "nf_conntrack", "br_netfilter", "iptable_nat", "iptable_filter"} {
		if _, err := os.Stat("/sys/module/" + module); err == nil {
			continue
		}
		if err := exec.Command("modprobe", "--", module).Run(); err != nil {
			log.Printf("Failed to load kernel module %s with modprobe", module)
		}
	}
	for name, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/forwarding": "1", "net/ipv4/conf/default/forwarding": "1",
		"net/bridge/bridge-nf-call-iptables": "1", "net/netfilter/nf_conntrack_tcp_timeout_established": "86400",
		"net/netfilter/nf_conntrack_tcp_timeout_close_wait": "3600",
	} {
		path := "/proc/sys/" + name
		if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == value {
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			log.Printf("Failed to set sysctl %s: %v", strings.ReplaceAll(name, "/", "."), err)
		}
	}
}

// chooseResolvConf finds one that pods can use: all its servers routable. Else it writes one with a public server.
func (d *daemon) chooseResolvConf() error {
	if d.options.ResolvConf != "" {
		return nil
	}
	for _, path := range []string{etcResolvConf, systemdResolvConf} {
		if text, err := os.ReadFile(path); err == nil && control.AllRoutable(string(text)) {
			d.options.ResolvConf = path
			return nil
		}
	}
	d.options.ResolvConf = d.options.Path("agent/etc/resolv.conf")
	log.Printf("Host resolv.conf includes loopback, multicast or link-local nameservers: using 8.8.8.8 in %s", d.options.ResolvConf)
	// For root alone, as K3s makes it, whoever comes first.
	if err := os.MkdirAll(d.options.Path("agent"), 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.options.ResolvConf), 0o755); err != nil {
		return err
	}
	return pki.WriteFile(d.options.ResolvConf, []byte("nameserver 8.8.8.8\n"), 0o444)
}
