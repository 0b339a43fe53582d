package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/gate"
	"edgefleet.local/k3s_double/proc"
)

const (
	portTimeout = 15 * time.Second // for what a killed server held to be free again
	stopTimeout = 5 * time.Second
	gateHost    = "0.0.0.0"
)

// server is one run of `k3s server`.
type server struct {
	options   *control.Options
	host      control.Host
	shownArgs []string

	programs  string // the folder of this program
	processes []*proc.Process
	failed    chan error
}

// run starts everything in K3s's order, says READY to systemd, and ends when told to or when a component ends.
func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.stopAll()
	defer cancel()
	s.failed = make(chan error, 16)
	started := make(chan error, 1)
	go func() { started <- s.start(ctx) }()
	for {
		select {
		case err := <-started:
			if err != nil {
				return s.cause(err)
			}
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// cause prefers a component's end over what failed because of it.
func (s *server) cause(err error) error {
	select {
	case failure := <-s.failed:
		return failure
	case <-time.After(time.Second):
		return err
	}
}

func (s *server) start(ctx context.Context) error {
	begin := time.Now()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	s.programs = filepath.Dir(program)
	o := s.options
	s.prepareKernel()
	if err := s.chooseResolvConf(); err != nil {
		return err
	}
	if err := o.Prepare(begin); err != nil {
		return err
	}
	if err := waitForPorts(ctx, o.Port, control.APIServerPort, 10250); err != nil {
		return err
	}
	if err := startDatastore(context.Background(), o.Path("server")); err != nil {
		return fmt.Errorf("datastore: %w", err)
	}
	if err := s.openGate(ctx); err != nil {
		return err
	}
	if err := s.startComponent("kube-apiserver", o.APIServer()); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.Path("server/cred/supervisor.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := waitForAPI(ctx, client); err != nil {
		return err
	}
	log.Printf("lab double: API server ready after %.1f s", time.Since(begin).Seconds())
	if err := s.startComponent("kube-controller-manager", o.ControllerManager()); err != nil {
		return err
	}
	if err := s.startComponent("kube-scheduler", o.Scheduler()); err != nil {
		return err
	}
	// They would wait for the API server by themselves, but each time longer.
	if err := s.startNode(); err != nil {
		return err
	}
	if err := s.startHooks(ctx, config, client); err != nil {
		return err
	}
	log.Printf("lab double: k3s is up and running after %.1f s", time.Since(begin).Seconds())
	return notify("READY=1\n")
}

func (s *server) startNode() error {
	if err := s.startComponent("kubelet", s.options.Kubelet(s.host)); err != nil {
		return err
	}
	if !s.options.KubeProxy {
		return nil
	}
	return s.startComponent("kube-proxy", s.options.KubeProxyArguments())
}

// startHooks brings in what needs the API: its own address, the node, the manifests.
func (s *server) startHooks(ctx context.Context, config *rest.Config, client kubernetes.Interface) error {
	if err := publishAPIAddress(ctx, client, s.options); err != nil {
		return err
	}
	deployer, err := newDeployer(config, s.options)
	if err != nil {
		return err
	}
	if err := deployer.stage(); err != nil {
		return err
	}
	if err := deployer.first(ctx); err != nil {
		return err
	}
	go deployer.run(ctx)
	nodes, err := newNodeKeeper(client, s.options, s.shownArgs)
	if err != nil {
		return err
	}
	go nodes.run(ctx)
	return nil
}

func (s *server) startComponent(name string, args []string) error {
	log.Printf("Running %s %s", name, strings.Join(args, " "))
	process, err := proc.Start(proc.Child{
		Name: name, Path: filepath.Join(s.programs, "k3s-kube"), Args: args, Dir: s.options.Path("server"),
		Env: s.childEnvironment(), Log: os.Stderr,
	})
	if err != nil {
		return err
	}
	s.processes = append(s.processes, process)
	go func() {
		<-process.Done
		s.failed <- process.Failure()
	}()
	return nil
}

// childEnvironment: only this process speaks to systemd; the cluster's own addresses never go through a proxy.
func (s *server) childEnvironment() []string {
	var env []string
	direct := append([]string{".svc", "." + s.options.ClusterDomain}, s.options.ClusterCIDRs...)
	direct = append(direct, s.options.ServiceCIDRs...)
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "K3S_TOKEN":
		case "NO_PROXY":
			direct = append(direct, value)
		default:
			env = append(env, variable)
		}
	}
	return append(env, "NO_PROXY="+strings.Join(direct, ","))
}

// stopAll asks the components to end and gives them a moment; the kernel kills those that are left with this process.
func (s *server) stopAll() {
	deadline := time.After(stopTimeout)
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].Stop()
	}
	for _, process := range s.processes {
		select {
		case <-process.Done:
		case <-deadline:
			return
		}
	}
}

func (s *server) openGate(ctx context.Context) error {
	o := s.options
	address := o.BindAddress
	if address == "" {
		address = gateHost
	}
	api := &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", control.APIServerPort)}
	web, err := gate.New(net.JoinHostPort(address, strconv.Itoa(o.Port)), api, gate.Files{
		ServerCert: o.TLS("serving-kube-apiserver.crt"), ServerKey: o.TLS("serving-kube-apiserver.key"),
		ServerCA: o.TLS("server-ca.crt"), ClientCA: o.TLS("client-ca.crt"),
		ProxyCert: o.TLS("client-auth-proxy.crt"), ProxyKey: o.TLS("client-auth-proxy.key"),
	}, log.Default())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", web.Addr)
	if err != nil {
		return err
	}
	go func() {
		if err := web.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("port %d: %w", o.Port, err)
		}
	}()
	go func() {
		<-ctx.Done()
		web.Close()
	}()
	return nil
}

func waitForAPI(ctx context.Context, client kubernetes.Interface) error {
	return waitFor(ctx, 250*time.Millisecond, func() error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// waitForPorts gives the components of a server that was just killed the time to be gone.
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
