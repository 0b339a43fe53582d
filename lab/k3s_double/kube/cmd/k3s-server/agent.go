package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"time"

	"edgefleet.local/k3s_double/balance"
	"edgefleet.local/k3s_double/join"
)

const (
	connectRetry = 2 * time.Second
	joinRetry    = 5 * time.Second // and up to as much again
	apiTimeout   = 15 * time.Minute
)

// agent is one run of `k3s agent`.
type agent struct {
	daemon
	balancer *balance.Balancer
}

// start joins the cluster, however long that takes, then runs the node, then says READY to systemd.
func (a *agent) start(ctx context.Context) error {
	begin := time.Now()
	o := a.options
	a.folder = o.Path("agent")
	credentials, err := o.Credentials()
	if err != nil {
		return err
	}
	a.prepareKernel()
	if err := o.PrepareAgent(); err != nil {
		return err
	}
	if err := a.chooseResolvConf(); err != nil {
		return err
	}
	password, err := o.NodePassword()
	if err != nil {
		return err
	}
	if err := a.openBalancer(ctx); err != nil {
		return err
	}
	client, err := a.join(ctx, credentials, join.Node{Name: o.NodeName, Password: password, Addresses: o.NodeIPs})
	if err != nil {
		return err
	}
	if err := a.learnServers(ctx, client); err != nil {
		return err
	}
	if err := waitForPorts(ctx, 10250); err != nil {
		return err
	}
	if err := a.startNode(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := a.finishNode(limited); err != nil {
		return err
	}
	log.Printf("lab double: k3s agent is up and running after %.1f s", time.Since(begin).Seconds())
	return notify("READY=1\n")
}

func (a *agent) openBalancer(ctx context.Context) error {
	o := a.options
	if !o.LoadBalancer {
		return nil
	}
	balancer, err := balance.Listen(o.LoadBalancerAddress(), o.Path("agent/etc/k3s-agent-load-balancer.json"), o.ServerURL)
	if err != nil {
		return err
	}
	a.balancer = balancer
	go func() {
		if err := balancer.Serve(ctx); err != nil {
			a.failed <- err
		}
	}()
	return nil
}

// join asks for what the node needs until it has it: a server that is away, a wrong token and a rejected node password
// are all waited out, as somebody may put them right on the server.
func (a *agent) join(ctx context.Context, credentials join.Credentials, node join.Node) (*join.Client, error) {
	o := a.options
	if err := a.retry(ctx, func() time.Duration { return connectRetry }, func() error {
		if _, err := join.Connect(o.SupervisorURL(), credentials); err != nil {
			return fmt.Errorf("Failed to validate connection to cluster at %s: %w", o.ServerURL, err)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var client *join.Client
	err := a.retry(ctx, func() time.Duration { return joinRetry + rand.N(joinRetry) }, func() error {
		var err error
		if client, err = join.Connect(o.SupervisorURL(), credentials); err == nil {
			err = a.fetch(client, node)
		}
		if err != nil {
			return fmt.Errorf("Waiting to retrieve agent configuration; server is not ready: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := o.CheckLearnt(); err != nil {
		return nil, err
	}
	return client, o.WriteAgentKubeconfigs()
}

func (a *agent) fetch(client *join.Client, node join.Node) error {
	settings, err := client.Join(a.options.Path("agent"), node)
	if err != nil {
		return err
	}
	a.options.Learn(settings)
	return nil
}

// retry tries for ever, and says each time why it failed.
func (a *agent) retry(ctx context.Context, pause func() time.Duration, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		log.Print(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause()):
		}
	}
}

// learnServers asks where the API answers, and waits until the server has started all of its own.
func (a *agent) learnServers(ctx context.Context, client *join.Client) error {
	pause := func() time.Duration { return joinRetry }
	return a.retry(ctx, pause, func() error {
		addresses, err := client.APIServers()
		if err == nil {
			err = client.Ready()
		}
		if err != nil {
			return fmt.Errorf("Waiting for the server: %w", err)
		}
		if a.balancer == nil {
			return nil
		}
		return a.balancer.Set(addresses)
	})
}
