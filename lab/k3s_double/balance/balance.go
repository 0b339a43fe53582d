// Package balance is an agent's way to its servers: a local port that leads to one that answers.
package balance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"edgefleet.local/k3s_double/pki"
)

const (
	dialTimeout = 10 * time.Second
	httpsPort   = "443"
)

// state is what survives a restart. It counts only while the configured server is the same.
type state struct {
	ServerURL       string
	ServerAddresses []string
}

// Balancer passes connections on.
type Balancer struct {
	listener net.Listener
	file     string
	fallback string // host:port of the configured server

	mutex sync.Mutex
	state state
	lost  bool // nobody answered last time: told once
}

// Listen opens the port and reads what an earlier run has learnt.
func Listen(address, file, serverURL string) (*Balancer, error) {
	server, err := url.Parse(serverURL)
	if err != nil {
		return nil, err
	}
	b := &Balancer{file: file, fallback: server.Host, state: state{ServerURL: serverURL}}
	if server.Port() == "" {
		b.fallback = net.JoinHostPort(server.Hostname(), httpsPort)
	}
	if err := b.load(); err != nil {
		return nil, err
	}
	if b.listener, err = net.Listen("tcp", address); err != nil {
		return nil, fmt.Errorf("load balancer: %w", err)
	}
	return b, nil
}

func (b *Balancer) load() error {
	text, err := os.ReadFile(b.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var old state
	if err := json.Unmarshal(text, &old); err != nil {
		return fmt.Errorf("%s: %w", b.file, err)
	}
	if old.ServerURL == b.state.ServerURL {
		b.state = old
	}
	return nil
}

// Address is where it listens.
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Set makes these servers, each host:port, the ones to lead to, now and after a restart.
func (b *Balancer) Set(addresses []string) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if len(addresses) == 0 || slices.Equal(addresses, b.state.ServerAddresses) {
		return nil
	}
	b.state.ServerAddresses = slices.Clone(addresses)
	text, err := json.Marshal(b.state)
	if err != nil {
		return err
	}
	return pki.WriteFile(b.file, text, 0o600)
}

// Serve works until the context ends.
func (b *Balancer) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { b.listener.Close() })
	defer stop()
	for {
		client, err := b.listener.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("load balancer: %w", err)
		}
		go b.pass(client)
	}
}

func (b *Balancer) pass(client net.Conn) {
	defer client.Close()
	server, err := b.dial()
	b.tell(err)
	if err != nil {
		return
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			ended <- struct{}{}
		}()
	}
	<-ended // the other copy ends with the connections
}

func (b *Balancer) tell(err error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	switch {
	case err != nil && !b.lost:
		log.Printf("Load balancer: no server answers: %v", err)
	case err == nil && b.lost:
		log.Print("Load balancer: a server answers again")
	}
	b.lost = err != nil
}

// dial tries the known servers, then the configured one; one that answers is the first to be tried next time.
func (b *Balancer) dial() (net.Conn, error) {
	b.mutex.Lock()
	candidates := slices.Clone(b.state.ServerAddresses)
	b.mutex.Unlock()
	if !slices.Contains(candidates, b.fallback) {
		candidates = append(candidates, b.fallback)
	}
	var failures []error
	for _, address := range candidates {
		server, err := net.DialTimeout("tcp", address, dialTimeout)
		if err == nil {
			b.prefer(address)
			return server, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

func (b *Balancer) prefer(address string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	at := slices.Index(b.state.ServerAddresses, address)
	if at > 0 {
		addresses := slices.Delete(slices.Clone(b.state.ServerAddresses), at, at+1)
		b.state.ServerAddresses = append([]string{address}, addresses...)
	}
}
