// k3s-server runs a node the way `k3s server` and `k3s agent` do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	apinet "k8s.io/apimachinery/pkg/util/net"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/control"
)

// Set at build time.
var version = "dev"

func main() {
	log.SetFlags(0)
	log.SetPrefix("k3s: ")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args); err != nil {
		log.Fatalf("lab double: %v", err)
	}
}

func run(ctx context.Context, argv []string) error {
	roles := map[string]config.Role{"server": config.Server, "agent": config.Agent}
	if len(argv) < 2 {
		return errors.New("is started by the k3s file, as `k3s server` or `k3s agent`")
	}
	command, args := argv[1], argv[2:]
	role, ok := roles[command]
	if !ok {
		return fmt.Errorf("no command %q", command)
	}
	for _, arg := range args {
		if arg == "-h" || arg == "--help" || arg == "-help" {
			usage(os.Stdout, command, role)
			return nil
		}
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("%s must run as root", command)
	}
	log.Printf("lab double: starting as k3s %s %s", command, version)
	parsed, err := config.Parse(role, args, os.LookupEnv)
	if err != nil {
		return err
	}
	for _, warning := range parsed.Warnings {
		log.Print(warning)
	}
	host, err := thisHost()
	if err != nil {
		return err
	}
	newOptions := control.NewOptions
	if role == config.Agent {
		newOptions = control.NewAgentOptions
	}
	options, err := newOptions(parsed.Settings, host)
	if err != nil {
		return err
	}
	for _, key := range options.WithoutEffect() {
		log.Printf("lab double: %s has no effect", key)
	}
	fromFile, err := control.FileArgs(args, os.LookupEnv)
	if err != nil {
		return err
	}
	node := daemon{options: options, host: host, shownArgs: control.MaskedArgs(command, fromFile, args)}
	if role == config.Agent {
		agent := &agent{daemon: node}
		return agent.run(ctx, agent.start)
	}
	server := &server{daemon: node}
	return server.run(ctx, server.start)
}

func usage(to io.Writer, command string, role config.Role) {
	fmt.Fprintf(to, "usage: k3s %s [FLAGS]; each flag is a key of /etc/rancher/k3s/config.yaml as well:\n", command)
	for _, key := range config.Keys {
		if (role == config.Server && key.Server) || (role == config.Agent && key.Agent) {
			fmt.Fprintf(to, "  --%s\n", key.Name)
		}
	}
}

func thisHost() (control.Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return control.Host{}, err
	}
	return control.Host{
		Hostname: name,
		Address: func(iface string) (string, error) {
			if iface != "" {
				return addressOf(iface)
			}
			address, err := apinet.ChooseHostInterface()
			return address.String(), err
		},
		NodeID: control.NodeID,
		Exists: func(path string) bool {
			_, err := os.Stat(path)
			return err == nil
		},
	}, nil
}

func addressOf(iface string) (string, error) {
	found, err := net.InterfaceByName(iface)
	if err != nil {
		return "", fmt.Errorf("flannel-iface: unable to find interface %s: %w", iface, err)
	}
	addresses, err := found.Addrs()
	if err != nil {
		return "", err
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			return network.IP.String(), nil
		}
	}
	return "", fmt.Errorf("flannel-iface: interface %s has no address", iface)
}

// notify tells systemd, if it asked.
func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Write([]byte(state))
	return err
}

// waitFor tries until it works, and gives the last error when the context ends.
func waitFor(ctx context.Context, every time.Duration, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(every):
		}
	}
}
