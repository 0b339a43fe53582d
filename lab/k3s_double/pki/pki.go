// Package pki makes and renews the certificates of a server, under the names and with the life times that K3s uses.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	caLife      = 10 * 365 * 24 * time.Hour
	leafLife    = 365 * 24 * time.Hour
	renewBefore = 90 * 24 * time.Hour
)

// Authority signs leaves.
type Authority struct {
	Cert *x509.Certificate
	PEM  []byte
	key  *ecdsa.PrivateKey
}

// EnsureAuthority loads <base>.crt and <base>.key, or makes a self-signed pair, with <base>.nochain.crt beside it.
func EnsureAuthority(base, name string, now time.Time) (*Authority, error) {
	if _, err := os.Stat(base + ".crt"); errors.Is(err, os.ErrNotExist) {
		if err := newAuthority(base, fmt.Sprintf("%s@%d", name, now.Unix()), now); err != nil {
			return nil, err
		}
	}
	cert, certPEM, err := readCert(base + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := EnsureKey(base + ".key")
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s.crt and %s.key are no pair: remove both for a new authority", base, base)
	}
	return &Authority{Cert: cert, PEM: certPEM, key: key}, nil
}

func newAuthority(base, commonName string, now time.Time) error {
	key, err := EnsureKey(base + ".key")
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.UTC(), NotAfter: now.Add(caLife).UTC(),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := WriteFile(base+".nochain.crt", text, 0o644); err != nil {
		return err
	}
	return WriteFile(base+".crt", text, 0o644)
}

// EnsureKey loads an EC key, or makes one.
func EnsureKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
	} else if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// Leaf is a certificate that should be there.
type Leaf struct {
	CommonName   string
	Organization []string
	Names        []string // DNS names and IP addresses; none for a client
	Usage        x509.ExtKeyUsage
}

// EnsureLeaf loads <base>.crt and <base>.key, or makes them anew when 90 days or less are left, or subject, names or
// authority changed. The file holds the chain. It says whether it made one.
func (a *Authority) EnsureLeaf(base string, leaf Leaf, now time.Time) (bool, error) {
	if cert, _, err := readCert(base + ".crt"); err == nil && a.stillGood(cert, leaf, now) {
		if _, err := os.Stat(base + ".key"); err == nil {
			return false, nil
		}
	}
	key, err := EnsureKey(base + ".key")
	if err != nil {
		return false, err
	}
	text, err := a.sign(leaf, key, now)
	if err != nil {
		return false, err
	}
	return true, WriteFile(base+".crt", text, 0o644)
}

// Issue signs a certificate for the key in a file, and gives the chain and that key.
func (a *Authority) Issue(leaf Leaf, keyFile string, now time.Time) (chain, key []byte, err error) {
	pair, err := EnsureKey(keyFile)
	if err != nil {
		return nil, nil, err
	}
	if chain, err = a.sign(leaf, pair, now); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(keyFile)
	return chain, key, err
}

func (a *Authority) sign(leaf Leaf, key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, err
	}
	dns, ips := splitNames(leaf.Names)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organization},
		DNSNames: dns, IPAddresses: ips,
		// As old as the authority, so that a host whose clock is a little behind accepts it.
		NotBefore: a.Cert.NotBefore, NotAfter: now.Add(leafLife).UTC(),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{leaf.Usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.PEM...), nil
}

func (a *Authority) stillGood(cert *x509.Certificate, leaf Leaf, now time.Time) bool {
	dns, ips := splitNames(leaf.Names)
	sameIPs := slices.EqualFunc(sortedIPs(cert.IPAddresses), sortedIPs(ips), bytes.Equal)
	return cert.CheckSignatureFrom(a.Cert) == nil &&
		cert.NotAfter.Sub(now) > renewBefore &&
		cert.Subject.CommonName == leaf.CommonName &&
		slices.Equal(sorted(cert.Subject.Organization), sorted(leaf.Organization)) &&
		slices.Equal(sorted(cert.DNSNames), sorted(dns)) && sameIPs
}

func splitNames(names []string) (dns []string, ips []net.IP) {
	seen := map[string]bool{}
	for _, name := range names {
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, name)
		}
	}
	return dns, ips
}

func sorted(items []string) []string {
	items = slices.Clone(items)
	slices.Sort(items)
	return items
}

func sortedIPs(ips []net.IP) [][]byte {
	var all [][]byte
	for _, ip := range ips {
		all = append(all, ip.To16())
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}

func readCert(path string) (*x509.Certificate, []byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, nil, fmt.Errorf("%s holds no PEM block", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, text, nil
}

// WriteFile replaces a file in one step: after a power cut the old or the new one is there, never half of it.
func WriteFile(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // after the rename there is nothing left to remove
	if _, err = temporary.Write(content); err == nil {
		err = temporary.Chmod(mode)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
