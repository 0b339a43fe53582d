// k3s-server runs a Kubernetes server the way `k3s server` does.
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
	if len(argv) < 2 || argv[1] != "server" {
		return errors.New("is started by the k3s file, as `k3s server`")
	}
	args := argv[2:]
	for _, arg := range args {
		if arg == "-h" || arg == "--help" || arg == "-help" {
			usage(os.Stdout)
			return nil
		}
	}
	if os.Getuid() != 0 {
		return errors.New("server must run as root")
	}
	log.Printf("lab double: starting as k3s %s", version)
	parsed, err := config.Parse(config.Server, args, os.LookupEnv)
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
	options, err := control.NewOptions(parsed.Settings, host)
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
	server := &server{options: options, host: host, shownArgs: control.MaskedArgs(fromFile, args)}
	return server.run(ctx)
}

func usage(to io.Writer) {
	fmt.Fprintln(to, "usage: k3s server [FLAGS]; each flag is a key of /etc/rancher/k3s/config.yaml as well:")
	for _, key := range config.Keys {
		if key.Server {
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
		Address: func() (string, error) {
			address, err := apinet.ChooseHostInterface()
			return address.String(), err
		},
		Exists: func(path string) bool {
			_, err := os.Stat(path)
			return err == nil
		},
	}, nil
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
