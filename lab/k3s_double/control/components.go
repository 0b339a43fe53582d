package control

import (
	"fmt"
	"strconv"
	"strings"

	"edgefleet.local/k3s_double/config"
)

// APIServerPort is where the API server itself listens, on the loopback address only.
const APIServerPort = 6444

const cipherSuites = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384," +
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256," +
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"

// APIServer gives the arguments of kube-apiserver. It runs in <data-dir>/server: the datastore's socket is relative to it.
func (o *Options) APIServer() []string {
	issuer := "https://kubernetes.default.svc." + o.ClusterDomain
	args := map[string]string{
		"cert-dir":                    o.TLS("temporary-certs"),
		"allow-privileged":            "true",
		"enable-bootstrap-token-auth": "true",
		"authorization-mode":          "Node,RBAC",
		"service-account-issuer":      issuer,
		// "k3s" as a second audience, as K3s has it.
		"api-audiences":                      issuer + ",k3s",
		"service-account-signing-key-file":   o.TLS("service.current.key"),
		"service-account-key-file":           o.TLS("service.key"),
		"service-cluster-ip-range":           strings.Join(o.ServiceCIDRs, ","),
		"service-node-port-range":            o.NodePortRange.String(),
		"advertise-address":                  o.AdvertiseAddress,
		"bind-address":                       "127.0.0.1",
		"secure-port":                        strconv.Itoa(APIServerPort),
		"tls-cert-file":                      o.TLS("serving-kube-apiserver.crt"),
		"tls-private-key-file":               o.TLS("serving-kube-apiserver.key"),
		"tls-cipher-suites":                  cipherSuites,
		"client-ca-file":                     o.TLS("client-ca.crt"),
		"kubelet-certificate-authority":      o.TLS("server-ca.crt"),
		"kubelet-client-certificate":         o.TLS("client-kube-apiserver.crt"),
		"kubelet-client-key":                 o.TLS("client-kube-apiserver.key"),
		"kubelet-preferred-address-types":    "InternalIP,ExternalIP,Hostname",
		"requestheader-client-ca-file":       o.TLS("request-header-ca.crt"),
		"requestheader-allowed-names":        "system:auth-proxy",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"proxy-client-cert-file":             o.TLS("client-auth-proxy.crt"),
		"proxy-client-key-file":              o.TLS("client-auth-proxy.key"),
		"enable-admission-plugins":           "NodeRestriction",
		"anonymous-auth":                     "false",
		"profiling":                          "false",
		"storage-backend":                    "etcd3",
		"etcd-servers":                       "unix://kine.sock",
		"enable-aggregator-routing":          "true",
		// The API server listens on the loopback address; the server enters the address that pods can reach.
		"endpoint-reconciler-type": "none",
	}
	if o.SecretsEncryption {
		args["encryption-provider-config"] = o.EncryptionConfig()
		args["encryption-provider-config-automatic-reload"] = "true"
	}
	return o.finish(args, o.APIServerArgs)
}

// ControllerManager gives the arguments of kube-controller-manager.
func (o *Options) ControllerManager() []string {
	controllers := "*,tokencleaner"
	if o.CloudController {
		controllers += ",-service,-route,-cloud-node-lifecycle"
	}
	kubeconfig := o.Path("server/cred/controller.kubeconfig")
	args := map[string]string{
		"controllers":                      controllers,
		"kubeconfig":                       kubeconfig,
		"authorization-kubeconfig":         kubeconfig,
		"authentication-kubeconfig":        kubeconfig,
		"service-account-private-key-file": o.TLS("service.current.key"),
		"allocate-node-cidrs":              "true",
		"cluster-cidr":                     strings.Join(o.ClusterCIDRs, ","),
		"service-cluster-ip-range":         strings.Join(o.ServiceCIDRs, ","),
		"root-ca-file":                     o.TLS("server-ca.crt"),
		"profiling":                        "false",
		"bind-address":                     "127.0.0.1",
		"secure-port":                      "10257",
		"use-service-account-credentials":  "true",
		"leader-elect":                     "false",
		"configure-cloud-routes":           "false",
		"cluster-signing-kube-apiserver-client-cert-file": o.TLS("client-ca.nochain.crt"),
		"cluster-signing-kube-apiserver-client-key-file":  o.TLS("client-ca.key"),
		"cluster-signing-kubelet-client-cert-file":        o.TLS("client-ca.nochain.crt"),
		"cluster-signing-kubelet-client-key-file":         o.TLS("client-ca.key"),
		"cluster-signing-kubelet-serving-cert-file":       o.TLS("server-ca.nochain.crt"),
		"cluster-signing-kubelet-serving-key-file":        o.TLS("server-ca.key"),
		"cluster-signing-legacy-unknown-cert-file":        o.TLS("server-ca.nochain.crt"),
		"cluster-signing-legacy-unknown-key-file":         o.TLS("server-ca.key"),
	}
	return o.finish(args, o.ControllerManagerArgs)
}

// Scheduler gives the arguments of kube-scheduler.
func (o *Options) Scheduler() []string {
	kubeconfig := o.Path("server/cred/scheduler.kubeconfig")
	return o.finish(map[string]string{
		"kubeconfig":                kubeconfig,
		"authorization-kubeconfig":  kubeconfig,
		"authentication-kubeconfig": kubeconfig,
		"bind-address":              "127.0.0.1",
		"secure-port":               "10259",
		"profiling":                 "false",
		"leader-elect":              "false",
	}, o.SchedulerArgs)
}

// Kubelet gives the arguments of the kubelet. It evicts at less than 5 % of disk; for memory K3s has no rule.
func (o *Options) Kubelet(host Host) []string {
	bind := firstOf(o.BindAddress, "0.0.0.0")
	args := map[string]string{
		"healthz-bind-address":         "127.0.0.1",
		"read-only-port":               "0",
		"address":                      bind,
		"cluster-domain":               o.ClusterDomain,
		"cluster-dns":                  strings.Join(o.ClusterDNS, ","),
		"kubeconfig":                   o.Path("agent/kubelet.kubeconfig"),
		"eviction-hard":                "imagefs.available<5%,nodefs.available<5%",
		"eviction-minimum-reclaim":     "imagefs.available=10%,nodefs.available=10%",
		"fail-swap-on":                 "false",
		"cgroup-driver":                "cgroupfs",
		"authentication-token-webhook": "true",
		"anonymous-auth":               "false",
		"authorization-mode":           "Webhook",
		"client-ca-file":               o.Path("agent/client-ca.crt"),
		"tls-cert-file":                o.Path("agent/serving-kubelet.crt"),
		"tls-private-key-file":         o.Path("agent/serving-kubelet.key"),
		"pod-manifest-path":            o.Path("agent/pod-manifests"),
		"resolv-conf":                  o.ResolvConf,
		"serialize-image-pulls":        "false",
		"container-runtime-endpoint":   withScheme(o.RuntimeEndpoint),
		"image-service-endpoint":       withScheme(o.ImageEndpoint),
		"hostname-override":            o.NodeName,
		"node-ip":                      strings.Join(o.NodeIPs, ","),
		"allowed-unsafe-sysctls":       "net.ipv4.ip_forward,net.ipv6.conf.all.forwarding",
	}
	if strings.Contains(o.RuntimeEndpoint, "containerd") {
		args["containerd"] = o.RuntimeEndpoint
	}
	if o.CloudController {
		args["cloud-provider"] = "external"
	}
	if len(o.Labels) > 0 {
		args["node-labels"] = strings.Join(o.Labels, ",")
	}
	if len(o.Taints) > 0 {
		args["register-with-taints"] = strings.Join(o.Taints, ",")
	}
	if o.ProtectKernelDefaults {
		args["protect-kernel-defaults"] = "true"
	}
	if host.Exists(o.CredentialBin) && host.Exists(o.CredentialConf) {
		args["image-credential-provider-bin-dir"] = o.CredentialBin
		args["image-credential-provider-config"] = o.CredentialConf
	}
	return o.finish(args, o.KubeletArgs)
}

// KubeProxyArguments gives the arguments of kube-proxy. It leaves conntrack alone: the server sets those values.
func (o *Options) KubeProxyArguments() []string {
	return o.finish(map[string]string{
		"proxy-mode":                        "iptables",
		"healthz-bind-address":              "127.0.0.1",
		"kubeconfig":                        o.Path("agent/kubeproxy.kubeconfig"),
		"cluster-cidr":                      strings.Join(o.ClusterCIDRs, ","),
		"conntrack-max-per-core":            "0",
		"conntrack-tcp-timeout-established": "0s",
		"conntrack-tcp-timeout-close-wait":  "0s",
		"hostname-override":                 o.NodeName,
	}, o.KubeProxyArgs)
}

// EncryptionConfig is where the keys of encrypted secrets lie.
func (o *Options) EncryptionConfig() string { return o.Path("server/cred/encryption-config.json") }

func (o *Options) finish(defaults map[string]string, extra []string) []string {
	if o.Verbosity > 0 {
		defaults["v"] = fmt.Sprint(o.Verbosity)
	}
	if o.VModule != "" {
		defaults["vmodule"] = o.VModule
	}
	return config.ComponentArgs(defaults, extra)
}

func withScheme(endpoint string) string {
	if strings.HasPrefix(endpoint, "/") {
		return "unix://" + endpoint
	}
	return endpoint
}
