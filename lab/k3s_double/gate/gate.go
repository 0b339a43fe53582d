// Package gate is what answers on the server's port 6443: the supervisor's own paths, and the API behind it.
package gate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"edgefleet.local/k3s_double/status"
	"edgefleet.local/k3s_double/supervisor"
)

// Files are what the gate reads.
type Files struct {
	ServerCert, ServerKey string // shown to callers
	ServerCA              string // served at /cacerts; also trusts the API server
	ProxyCert, ProxyKey   string // shows the API server that the headers below come from here
}

const remoteHeaders = "X-Remote-"

// New makes the server. The API server checks tokens itself; of callers with a client certificate the gate checks the
// certificate and passes on name and groups.
func New(address string, api *url.URL, files Files, own *supervisor.Server, errors *log.Logger) (*http.Server, error) {
	certificate, err := tls.LoadX509KeyPair(files.ServerCert, files.ServerKey)
	if err != nil {
		return nil, err
	}
	proxyCertificate, err := tls.LoadX509KeyPair(files.ProxyCert, files.ProxyKey)
	if err != nil {
		return nil, err
	}
	serverCA, err := os.ReadFile(files.ServerCA)
	if err != nil {
		return nil, err
	}
	servers := x509.NewCertPool()
	if !servers.AppendCertsFromPEM(serverCA) {
		return nil, fmt.Errorf("%s holds no certificate", files.ServerCA)
	}
	quiet := log.New(&handshakeFilter{errors.Writer()}, "", 0)
	anonymous := proxy(api, &tls.Config{RootCAs: servers}, quiet)
	known := proxy(api, &tls.Config{RootCAs: servers, Certificates: []tls.Certificate{proxyCertificate}}, quiet)

	mux := http.NewServeMux()
	mux.HandleFunc("/cacerts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(serverCA)
	})
	mux.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "pong")
	})
	apiServer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dropHeaders(r.Header)
		if caller := supervisor.Verified(r, own.ClientCAs); caller != nil {
			r.Header.Set(remoteHeaders+"User", caller.Subject.CommonName)
			r.Header[remoteHeaders+"Group"] = caller.Subject.Organization
			known.ServeHTTP(w, r)
			return
		}
		anonymous.ServeHTTP(w, r)
	})
	mux.Handle("/v1-k3s/", own.Handler(apiServer))
	mux.Handle("/", apiServer)
	return &http.Server{
		Addr: address, Handler: mux, ReadHeaderTimeout: 30 * time.Second, ErrorLog: quiet,
		TLSConfig: &tls.Config{
			// A bad client certificate is answered with 401 by the API server, not with a broken handshake.
			Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12,
		},
	}, nil
}

// proxy speaks HTTP/1.1 to the API server, as HTTP/2 knows no upgrade, which exec, attach and port-forward need.
func proxy(api *url.URL, config *tls.Config, errors *log.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(api)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			TLSClientConfig: config, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		FlushInterval: -1, // watches
		ErrorLog:      errors,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			status.Write(w, http.StatusServiceUnavailable, "starting")
		},
	}
}

// dropHeaders takes away what would let a caller name itself.
func dropHeaders(header http.Header) {
	for name := range header {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), remoteHeaders) {
			delete(header, name)
		}
	}
}

// handshakeFilter leaves out what every port scan and health check causes.
type handshakeFilter struct{ to io.Writer }

func (f *handshakeFilter) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		return len(line), nil
	}
	return f.to.Write(line)
}
