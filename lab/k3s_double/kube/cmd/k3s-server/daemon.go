package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/proc"
)

const (
	portTimeout = 15 * time.Second // for what a killed server held to be free again
	stopTimeout = 5 * time.Second
)

// daemon is one run of `k3s server` or `k3s agent`: components as children, and what both do for their node.
type daemon struct {
	options   *control.Options
	host      control.Host
	shownArgs []string

	folder    string // where components run
	programs  string // the folder of this program
	processes []*proc.Process
	failed    chan error
}

// run starts everything, and ends when told to or when a component ends.
func (d *daemon) run(ctx context.Context, start func(context.Context) error) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	d.programs = filepath.Dir(program)
	ctx, cancel := context.WithCancel(ctx)
	defer d.stopAll()
	defer cancel()
	d.failed = make(chan error, 16)
	started := make(chan error, 1)
	go func() { started <- start(ctx) }()
	for {
		select {
		case err := <-started:
			if err != nil && ctx.Err() == nil {
				return d.cause(err)
			}
		case err := <-d.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// cause prefers a component's end over what failed because of it.
func (d *daemon) cause(err error) error {
	select {
	case failure := <-d.failed:
		return failure
	case <-time.After(time.Second):
		return err
	}
}

func (d *daemon) startComponent(name string, args []string) error {
	log.Printf("Running %s %s", name, strings.Join(args, " "))
	process, err := proc.Start(proc.Child{
		Name: name, Path: filepath.Join(d.programs, "k3s-kube"), Args: args, Dir: d.folder,
		Env: d.childEnvironment(), Log: os.Stderr,
	})
	if err != nil {
		return err
	}
	d.processes = append(d.processes, process)
	go func() {
		<-process.Done
		d.failed <- process.Failure()
	}()
	return nil
}

// childEnvironment: only this process speaks to systemd; the cluster's own addresses never go through a proxy.
func (d *daemon) childEnvironment() []string {
	var env []string
	direct := append([]string{".svc", "." + d.options.ClusterDomain}, d.options.ClusterCIDRs...)
	direct = append(direct, d.options.ServiceCIDRs...)
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "K3S_TOKEN", "K3S_AGENT_TOKEN":
		case "NO_PROXY":
			direct = append(direct, value)
		default:
			env = append(env, variable)
		}
	}
	return append(env, "NO_PROXY="+strings.Join(direct, ","))
}

// stopAll asks the components to end and gives them a moment; the kernel kills those that are left with this process.
func (d *daemon) stopAll() {
	deadline := time.After(stopTimeout)
	for i := len(d.processes) - 1; i >= 0; i-- {
		d.processes[i].Stop()
	}
	for _, process := range d.processes {
		select {
		case <-process.Done:
		case <-deadline:
			return
		}
	}
}

// startNode runs the components of a node.
func (d *daemon) startNode() error {
	if err := d.startComponent("kubelet", d.options.Kubelet(d.host)); err != nil {
		return err
	}
	if !d.options.KubeProxy {
		return nil
	}
	return d.startComponent("kube-proxy", d.options.KubeProxyArguments())
}

// finishNode does what needs the Node: its labels and annotations, the pod network, policies, local volumes.
func (d *daemon) finishNode(ctx context.Context) error {
	o := d.options
	kubelet, err := clientOf(o.Path("agent/kubelet.kubeconfig"))
	if err != nil {
		return err
	}
	if err := waitForAPI(ctx, kubelet); err != nil {
		return err
	}
	if err := describeNode(ctx, kubelet, o, d.shownArgs); err != nil {
		return err
	}
	if o.FlannelBackend != "none" {
		if err := startNetwork(ctx, kubelet, o, d.failed); err != nil {
			return err
		}
	}
	if o.LocalStoragePath != "" {
		if err := startVolumes(ctx, o); err != nil {
			return fmt.Errorf("local volumes: %w", err)
		}
	}
	if !o.NetworkPolicy {
		return nil
	}
	if err := startPolicies(ctx, o); err != nil {
		return fmt.Errorf("network policies: %w", err)
	}
	return nil
}

// clientOf speaks to the API as a kubeconfig says.
func clientOf(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 100
	return kubernetes.NewForConfig(config)
}

func waitForAPI(ctx context.Context, client kubernetes.Interface) error {
	return waitFor(ctx, 250*time.Millisecond, func() error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// waitForPorts gives the components of a run that was just killed the time to be gone.
func waitForPorts(ctx context.Context, ports ...int) error {
	ctx, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	return waitFor(ctx, 200*time.Millisecond, func() error {
		for _, port := range ports {
			listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return fmt.Errorf("port %d: %w", port, err)
			}
			listener.Close()
		}
		return nil
	})
}
