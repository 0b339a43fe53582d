package main

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	"github.com/coreos/go-iptables/iptables"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"edgefleet.local/k3s_double/control"
)

// initializedWithin is how long the cloud controller may take for a node.
const initializedWithin = time.Minute

// startPolicies turns NetworkPolicies into rules on this node, by kube-router as K3s does. Without ipset it goes without.
func startPolicies(ctx context.Context, o *control.Options) error {
	sets, err := utils.NewIPSet(false)
	if err == nil {
		err = sets.Save()
	}
	if err != nil {
		log.Printf("Skipping network policy controller start, ipset unavailable: %v", err)
		return nil
	}
	client, err := clientOf(o.Path("agent/k3scontroller.kubeconfig"))
	if err != nil {
		return err
	}
	if err := awaitInitialized(ctx, client, o.NodeName); err != nil {
		return err
	}
	return runPolicies(context.WithoutCancel(ctx), client, o)
}

// awaitInitialized: the controller needs the node's addresses.
func awaitInitialized(ctx context.Context, client kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, initializedWithin)
	defer cancel()
	return waitFor(ctx, time.Second, func() error {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, taint := range node.Spec.Taints {
			if taint.Key == uninitialized {
				return fmt.Errorf("node %s waits for the cloud controller", name)
			}
		}
		return nil
	})
}

func runPolicies(ctx context.Context, client kubernetes.Interface, o *control.Options) error {
	network, err := netip.ParsePrefix(o.ClusterCIDRs[0])
	if err != nil {
		return err
	}
	config := options.NewKubeRouterConfig()
	config.ClusterIPCIDRs = o.ServiceCIDRs
	config.EnableIPv4, config.EnableIPv6 = network.Addr().Is4(), !network.Addr().Is4()
	config.NodePortRange = strings.ReplaceAll(o.NodePortRange.String(), "-", ":")
	config.HostnameOverride = o.NodeName
	config.RunFirewall = true
	family, protocol := corev1.IPv4Protocol, iptables.ProtocolIPv4
	if config.EnableIPv6 {
		family, protocol = corev1.IPv6Protocol, iptables.ProtocolIPv6
	}
	tables, err := iptables.NewWithProtocol(protocol)
	if err != nil {
		return fmt.Errorf("iptables for network policies: %w", err)
	}
	sets, err := utils.NewIPSet(config.EnableIPv6)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sync.Mutex{},
		map[corev1.IPFamily]utils.IPTablesHandler{family: tables},
		map[corev1.IPFamily]utils.IPSetHandler{family: sets})
	if err != nil {
		return fmt.Errorf("unable to initialize network policy controller: %w", err)
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: controller.PodEventHandler, namespaces: controller.NamespaceEventHandler,
		policies: controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range heartbeats { // nobody asks for kube-router's own health
		}
	}()
	var group sync.WaitGroup
	group.Add(1)
	go controller.Run(heartbeats, ctx.Done(), &group)
	log.Print("Started network policy controller")
	return nil
}
