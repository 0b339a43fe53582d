package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/encryption"
	"edgefleet.local/k3s_double/gate"
	"edgefleet.local/k3s_double/supervisor"
)

const (
	gateHost = "0.0.0.0"
	// The API server looks for changes of its encryption configuration once a minute.
	reloadTimeout = 80 * time.Second
)

// server is one run of `k3s server`.
type server struct {
	daemon
	supervisor *supervisor.Server
}

// start starts everything in K3s's order and says READY to systemd.
func (s *server) start(ctx context.Context) error {
	begin := time.Now()
	o := s.options
	s.folder = o.Path("server")
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
	kubeconfig := o.Path("server/cred/supervisor.kubeconfig")
	client, err := clientOf(kubeconfig)
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
	if err := s.startHooks(ctx, kubeconfig, client); err != nil {
		return err
	}
	go func() {
		if err := s.finishNode(ctx); err != nil && ctx.Err() == nil {
			s.failed <- fmt.Errorf("node: %w", err)
		}
	}()
	log.Printf("lab double: k3s is up and running after %.1f s", time.Since(begin).Seconds())
	return notify("READY=1\n")
}

// startHooks brings in what needs the API: its own address, the manifests, nodes, agents.
func (s *server) startHooks(ctx context.Context, kubeconfig string, client kubernetes.Interface) error {
	if err := publishAPIAddress(ctx, client, s.options); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
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
	nodes, err := newNodeKeeper(client, s.options)
	if err != nil {
		return err
	}
	go nodes.run(ctx)
	return s.admitAgents(ctx, client)
}

// admitAgents lets nodes join, this one first.
func (s *server) admitAgents(ctx context.Context, client kubernetes.Interface) error {
	core := &passwordKeeper{client: client}
	password, err := s.options.NodePassword()
	if err != nil {
		return err
	}
	if err := core.EnsurePassword(ctx, s.options.NodeName, password); errors.Is(err, supervisor.ErrRejected) {
		log.Printf("Rejected this node: %v; /etc/rancher/node/password is not the one that it joined with", err)
	} else if err != nil {
		return err
	}
	s.supervisor.Encryption = &encryption.Manager{
		Files: s.options.Encryption(), Node: s.options.NodeName, ReloadTimeout: reloadTimeout, ReloadPoll: time.Second,
		Cluster: &encryptionCluster{client: client, node: s.options.NodeName},
	}
	s.supervisor.Ready(core)
	return nil
}

func (s *server) newSupervisor(now time.Time) (*supervisor.Server, error) {
	o := s.options
	authorities, err := o.Authorities(now)
	if err != nil {
		return nil, err
	}
	settings, err := o.Teach()
	if err != nil {
		return nil, err
	}
	callers := x509.NewCertPool()
	callers.AddCert(authorities.Client.Cert)
	return &supervisor.Server{
		Passwd: o.Path("server/cred/passwd"), ClientCAs: callers, Client: authorities.Client, Serving: authorities.Server,
		TLS: o.TLS, Config: settings, RotateToken: o.RotateToken,
		APIServers: []string{net.JoinHostPort(o.AdvertiseAddress, strconv.Itoa(o.AdvertisePort))},
	}, nil
}

func (s *server) openGate(ctx context.Context) error {
	o := s.options
	address := o.BindAddress
	if address == "" {
		address = gateHost
	}
	var err error
	if s.supervisor, err = s.newSupervisor(time.Now()); err != nil {
		return err
	}
	api := &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", control.APIServerPort)}
	web, err := gate.New(net.JoinHostPort(address, strconv.Itoa(o.Port)), api, gate.Files{
		ServerCert: o.TLS("serving-kube-apiserver.crt"), ServerKey: o.TLS("serving-kube-apiserver.key"),
		ServerCA:  o.TLS("server-ca.crt"),
		ProxyCert: o.TLS("client-auth-proxy.crt"), ProxyKey: o.TLS("client-auth-proxy.key"),
	}, s.supervisor, log.Default())
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
