// Package supervisor answers the requests under /v1-k3s/ by which agents join a server and commands talk to it.
package supervisor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"edgefleet.local/k3s_double/pki"
	"edgefleet.local/k3s_double/status"
)

const (
	prefix = "/v1-k3s/"
	// What an agent says of its node.
	nodeName, nodePassword, nodeIP = "k3s-Node-Name", "k3s-Node-Password", "k3s-Node-IP"
)

// ErrRejected is a password that is not the node's.
var ErrRejected = errors.New("unable to verify password for node")

// Core is what needs the API.
type Core interface {
	// HasNode says whether there is a node of this name.
	HasNode(ctx context.Context, name string) (bool, error)
	// EnsurePassword keeps the password of a node that is new, and compares that of a known one: ErrRejected.
	EnsurePassword(ctx context.Context, name, password string) error
}

// Encryption is the life of the key for secrets.
type Encryption interface {
	Status(ctx context.Context) (any, error)
	// Change does what a request's body asks for.
	Change(ctx context.Context, request []byte) error
}

// Server is this side of the join.
type Server struct {
	Passwd     string // server/cred/passwd
	ClientCAs  *x509.CertPool
	Client     *pki.Authority // signs kubelets as clients
	Serving    *pki.Authority // signs what kubelets serve with
	TLS        func(name string) string
	Config     Config
	APIServers []string // host:port
	Encryption Encryption
	// RotateToken makes another password the cluster's: a random one if none is given.
	RotateToken func(password string) error

	core atomic.Pointer[Core]
}

// Ready says that the API answers. Until then agents get 503.
func (s *Server) Ready(core Core) { s.core.Store(&core) }

// Handler answers; what it doesn't know goes on to the API server.
func (s *Server) Handler(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	agent := func(path string, handle func(http.ResponseWriter, *http.Request, caller)) {
		mux.HandleFunc(prefix+path, s.need(handle, agents, nodes))
	}
	agent("config", func(w http.ResponseWriter, _ *http.Request, _ caller) { writeJSON(w, s.Config) })
	agent("apiservers", func(w http.ResponseWriter, _ *http.Request, _ caller) { writeJSON(w, s.APIServers) })
	agent("readyz", s.readyz)
	agent("client-ca.crt", s.files("client-ca.crt"))
	agent("server-ca.crt", s.files("server-ca.crt"))
	agent("client-kube-proxy.crt", s.files("client-kube-proxy.crt", "client-kube-proxy.key"))
	agent("client-k3s-controller.crt", s.files("client-k3s-controller.crt", "client-k3s-controller.key"))
	agent("client-kubelet.crt", s.clientKubelet)
	agent("serving-kubelet.crt", s.servingKubelet)
	mux.HandleFunc(prefix+"connect", s.need(func(w http.ResponseWriter, _ *http.Request, _ caller) {
		status.Write(w, http.StatusNotImplemented, "lab double: no tunnel, the API server reaches kubelets directly")
	}, nodes))
	mux.HandleFunc(prefix+"encrypt/status", s.need(s.encryptionStatus, servers))
	mux.HandleFunc(prefix+"encrypt/config", s.need(s.encryptionChange, servers))
	mux.HandleFunc(prefix+"token", s.need(s.tokenChange, servers))
	mux.Handle("/", next)
	return mux
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request, _ caller) {
	if s.core.Load() == nil {
		status.Write(w, http.StatusServiceUnavailable, "runtime core not ready")
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte("ok"))
}

func (s *Server) files(names ...string) func(http.ResponseWriter, *http.Request, caller) {
	return func(w http.ResponseWriter, _ *http.Request, _ caller) {
		var all []byte
		for _, name := range names {
			content, err := os.ReadFile(s.TLS(name))
			if err != nil {
				failed(w, err)
				return
			}
			all = append(all, content...)
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(all)
	}
}

func (s *Server) clientKubelet(w http.ResponseWriter, r *http.Request, who caller) {
	name, ok := s.knownNode(w, r, who)
	if !ok {
		return
	}
	s.issue(w, s.Client, "client-kubelet.key", pki.Leaf{
		CommonName: nodePrefix + name, Organization: []string{nodes}, Usage: x509.ExtKeyUsageClientAuth,
	})
}

func (s *Server) servingKubelet(w http.ResponseWriter, r *http.Request, who caller) {
	name, ok := s.knownNode(w, r, who)
	if !ok {
		return
	}
	names := []string{name, "localhost", "127.0.0.1"}
	for _, address := range strings.Split(r.Header.Get(nodeIP), ",") {
		if address != "" && net.ParseIP(address) == nil {
			failed(w, fmt.Errorf("invalid node IP address %s", address))
			return
		}
		names = append(names, address)
	}
	leaf := pki.Leaf{CommonName: name, Names: names, Usage: x509.ExtKeyUsageServerAuth}
	s.issue(w, s.Serving, "serving-kubelet.key", leaf)
}

// issue sends chain and key in one; all nodes share the key, as agents that send no signing request do with K3s.
func (s *Server) issue(w http.ResponseWriter, authority *pki.Authority, key string, leaf pki.Leaf) {
	chain, pair, err := authority.Issue(leaf, s.TLS(key), time.Now())
	if err != nil {
		failed(w, err)
		return
	}
	_, _ = w.Write(append(chain, pair...))
}

// knownNode is the caller's node, if it is a new one or has shown its password.
func (s *Server) knownNode(w http.ResponseWriter, r *http.Request, who caller) (string, bool) {
	name, password := strings.ToLower(r.Header.Get(nodeName)), r.Header.Get(nodePassword)
	if name == "" || password == "" {
		status.Write(w, http.StatusBadRequest, "node name or password not set")
		return "", false
	}
	identity, isNode := strings.CutPrefix(who.name, nodePrefix)
	if isNode && identity != name {
		status.Write(w, http.StatusBadRequest, "header node name does not match auth node name")
		return "", false
	}
	core := s.core.Load()
	if core == nil {
		status.Write(w, http.StatusServiceUnavailable, "runtime core not ready")
		return "", false
	}
	if isNode {
		there, err := (*core).HasNode(r.Context(), name)
		if err != nil {
			failed(w, err)
			return "", false
		} else if !there {
			// The agent tries again by token, as a new node.
			status.Write(w, http.StatusUnauthorized, fmt.Sprintf("unable to verify node identity: no node %q", name))
			return "", false
		}
	}
	switch err := (*core).EnsurePassword(r.Context(), name, password); {
	case errors.Is(err, ErrRejected):
		log.Printf("Rejected node %s: %v", name, err)
		status.Write(w, http.StatusForbidden, err.Error())
		return "", false
	case err != nil:
		failed(w, err)
		return "", false
	}
	return name, true
}

func failed(w http.ResponseWriter, err error) {
	log.Print(err)
	status.Write(w, http.StatusInternalServerError, err.Error())
}

func writeJSON(w http.ResponseWriter, value any) {
	content, err := json.Marshal(value)
	if err != nil {
		failed(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(content, '\n'))
}
