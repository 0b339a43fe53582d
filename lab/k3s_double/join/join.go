// Package join is an agent's side of joining a cluster: it asks the server's supervisor, in K3s's order, for all that a
// node needs.
package join

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"edgefleet.local/k3s_double/pki"
	"edgefleet.local/k3s_double/supervisor"
	"edgefleet.local/k3s_double/token"
)

const (
	prefix  = "/v1-k3s/"
	timeout = 10 * time.Second
)

// Client talks to a supervisor that has shown who it is.
type Client struct {
	user      string
	base      string
	authority []byte // none where the machine's own store trusts the server
	token     token.Token
	pair      *tls.Certificate // of the kubelet, once the node has joined
}

// Node is what an agent says of itself.
type Node struct {
	Name, Password string
	Addresses      []string
}

// Credentials are how an agent shows that it may join: by token, or, once it has joined, by the kubelet's certificate. The
// user is the caller's own business, whatever the token says.
type Credentials struct {
	User     string
	Token    string
	CertFile string
	KeyFile  string
}

// Usable says what is missing.
func (c Credentials) Usable() error {
	if c.Token == "" && c.pair() == nil {
		return errors.New("--token is required")
	}
	return nil
}

func (c Credentials) pair() *tls.Certificate {
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil { // has not joined yet
		return nil
	}
	return &pair
}

// Connect asks for the server's authority and holds it against the token's hash.
func Connect(base string, credentials Credentials) (*Client, error) {
	client := &Client{user: credentials.User, base: base, pair: credentials.pair()}
	if credentials.Token != "" {
		var err error
		if client.token, err = token.Parse(credentials.Token); err != nil {
			return nil, err
		}
	} else if client.pair == nil {
		return nil, errors.New("token must not be empty")
	}
	authority, err := fetchAuthority(base)
	if err != nil {
		return nil, err
	}
	client.authority = authority
	switch {
	case authority == nil && client.token.Hash != "":
		log.Print("Cluster CA certificate is trusted by the host CA bundle. Token CA hash will not be validated.")
	case authority != nil && client.token.Hash == "":
		log.Print("Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash. " +
			"Use the full token from the server's node-token file to enable Cluster CA validation.")
	case authority != nil:
		if err := client.token.Check(authority); err != nil {
			return nil, err
		}
	}
	return client, nil
}

// fetchAuthority gives nothing where the machine's store trusts the server. Else it takes what the unverified server
// hands out, and looks whether that makes the server trustworthy.
func fetchAuthority(base string) ([]byte, error) {
	path := base + "/cacerts"
	if _, err := read(httpClient(&tls.Config{}), get(path)); err == nil {
		return nil, nil
	}
	authority, err := read(httpClient(&tls.Config{InsecureSkipVerify: true}), get(path)) // it is verified below
	if err != nil {
		return nil, fmt.Errorf("failed to get CA certs: %w", err)
	}
	if _, err := read(httpClient(&tls.Config{RootCAs: poolOf(authority)}), get(path)); err != nil {
		return nil, fmt.Errorf("CA cert validation failed: %w", err)
	}
	return authority, nil
}

func poolOf(authority []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority) // if it holds none, nobody is trusted
	return pool
}

func get(address string) *http.Request {
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil { // the address is checked when the agent starts
		panic(err)
	}
	return request
}

func httpClient(config *tls.Config) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
}

type statusError struct {
	url  string
	code int
}

func (e statusError) Error() string {
	return fmt.Sprintf("%s: %d %s", e.url, e.code, http.StatusText(e.code))
}

func read(client *http.Client, request *http.Request) ([]byte, error) {
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, statusError{request.URL.String(), answer.StatusCode}
	}
	return io.ReadAll(answer.Body)
}

func (c *Client) tls() *tls.Config {
	if c.authority == nil {
		return &tls.Config{}
	}
	return &tls.Config{RootCAs: poolOf(c.authority)}
}

// Put sends something to a path under /v1-k3s/, and gives it some time.
func (c *Client) Put(path string, body []byte, within time.Duration) error {
	client := httpClient(c.tls())
	client.Timeout = within
	request := c.request(path, nil)
	request.Method, request.Body, request.ContentLength = http.MethodPut, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(answer.Body) // whatever there is of it
		return fmt.Errorf("%w %s", statusError{request.URL.String(), answer.StatusCode}, bytes.TrimSpace(said))
	}
	return nil
}

// Get asks for a path under /v1-k3s/. A server that doesn't know the certificate (any more) is asked again without it.
func (c *Client) Get(path string, header http.Header) ([]byte, error) {
	config := c.tls()
	if c.pair != nil {
		config.Certificates = []tls.Certificate{*c.pair}
	}
	content, err := read(httpClient(config), c.request(path, header))
	var refused statusError
	if c.pair != nil && errors.As(err, &refused) && refused.code == http.StatusUnauthorized {
		config.Certificates = nil
		return read(httpClient(config), c.request(path, header))
	}
	return content, err
}

func (c *Client) request(path string, header http.Header) *http.Request {
	request := get(c.base + prefix + path)
	for name, values := range header {
		request.Header[name] = values
	}
	if c.token.Password != "" {
		request.SetBasicAuth(c.user, c.token.Password)
	}
	return request
}

// Join fetches the server's settings, and certificates and keys for the node into a folder.
func (c *Client) Join(folder string, node Node) (supervisor.Config, error) {
	var settings supervisor.Config
	content, err := c.Get("config", nil)
	if err == nil {
		err = json.Unmarshal(content, &settings)
	}
	if err != nil {
		return settings, fmt.Errorf("failed to retrieve configuration from server: %w", err)
	}
	header := http.Header{}
	header.Set("k3s-Node-Name", node.Name)
	header.Set("k3s-Node-Password", node.Password)
	header.Set("k3s-Node-IP", strings.Join(node.Addresses, ","))
	for _, file := range []struct {
		name   string
		header http.Header
	}{
		{"client-ca", nil}, {"server-ca", nil}, {"serving-kubelet", header}, {"client-kubelet", header},
		{"client-kube-proxy", nil}, {"client-k3s-controller", nil},
	} {
		if err := c.fetch(folder, file.name, file.header); err != nil {
			return settings, err
		}
	}
	return settings, nil
}

// fetch writes <name>.crt and, if the answer has one, <name>.key.
func (c *Client) fetch(folder, name string, header http.Header) error {
	content, err := c.Get(name+".crt", header)
	var refused statusError
	if header != nil && errors.As(err, &refused) && refused.code == http.StatusForbidden {
		return errors.New("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not " +
			"match server node-passwd entry, try enabling a unique node name with the --with-node-id flag")
	} else if err != nil {
		return err
	}
	certificates, key := split(content)
	if len(certificates) == 0 {
		return fmt.Errorf("the server's answer for %s.crt holds no certificate", name)
	}
	if len(key) > 0 {
		if err := pki.WriteFile(filepath.Join(folder, name+".key"), key, 0o600); err != nil {
			return err
		}
	}
	return pki.WriteFile(filepath.Join(folder, name+".crt"), certificates, 0o600)
}

func split(content []byte) (certificates, key []byte) {
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return certificates, key
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			key = append(key, pem.EncodeToMemory(block)...)
		} else {
			certificates = append(certificates, pem.EncodeToMemory(block)...)
		}
	}
}

// APIServers are where the API answers, host:port each.
func (c *Client) APIServers() ([]string, error) {
	content, err := c.Get("apiservers", nil)
	if err != nil {
		return nil, err
	}
	var addresses []string
	return addresses, json.Unmarshal(content, &addresses)
}

// Ready asks whether the server has started all of its own.
func (c *Client) Ready() error {
	_, err := c.Get("readyz", nil)
	return err
}
