package main

import (
	"context"
	"errors"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/drivers/sqlite"
	kine "github.com/k3s-io/kine/pkg/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// progressInterval is how often a watch without events hears of the current revision.
const progressInterval = 5 * time.Second

// startDatastore serves <folder>/db/state.db as etcd on <folder>/kine.sock, with K3s's options for SQLite.
func startDatastore(ctx context.Context, folder string) error {
	database := filepath.Join(folder, "db/state.db") + "?_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate"
	backend, err := sqlite.New(ctx, database, generic.ConnectionPoolConfig{}, nil)
	if err != nil {
		return err
	}
	if err := backend.Start(ctx); err != nil {
		return err
	}
	listener, err := listenUnix(filepath.Join(folder, "kine.sock"))
	if err != nil {
		return err
	}
	// etcd's own figures
	service := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}),
	)
	kine.New(backend, "unix", progressInterval).Register(service)
	go func() {
		if err := service.Serve(listener); err != nil {
			log.Fatalf("lab double: datastore: %v", err)
		}
	}()
	return nil
}

// listenUnix takes over the socket of a server that was killed.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(path, 0o600)
}
