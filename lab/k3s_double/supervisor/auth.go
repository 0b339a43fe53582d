package supervisor

import (
	"crypto/subtle"
	"crypto/x509"
	"encoding/csv"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"

	"edgefleet.local/k3s_double/status"
)

// Groups that let a caller in.
const (
	agents  = "k3s:agent"
	servers = "k3s:server"
	nodes   = "system:nodes"
)

const nodePrefix = "system:node:"

// caller is who asks.
type caller struct {
	name   string
	groups []string
}

// need lets only callers of one of these groups pass: 401 for bad credentials, 403 for others.
func (s *Server) need(next func(http.ResponseWriter, *http.Request, caller), groups ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.authenticate(r)
		if err != nil {
			log.Printf("Failed to authenticate request from %s: %v", r.RemoteAddr, err)
			status.Write(w, http.StatusUnauthorized, "not authorized")
			return
		}
		if !slices.ContainsFunc(who.groups, func(group string) bool { return slices.Contains(groups, group) }) {
			status.Write(w, http.StatusForbidden, "forbidden")
			return
		}
		next(w, r, who)
	}
}

// authenticate tries the password, then the client certificate. No credentials at all is no error.
func (s *Server) authenticate(r *http.Request) (caller, error) {
	user, password, given := r.BasicAuth()
	var failure error
	if given {
		var who caller
		if who, failure = s.byPassword(user, password); failure == nil {
			return who, nil
		}
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return caller{}, failure
	}
	certificate := Verified(r, s.ClientCAs)
	if certificate == nil {
		return caller{}, errors.Join(failure, errors.New("client certificate is not of this cluster, or not valid now"))
	}
	return caller{certificate.Subject.CommonName, certificate.Subject.Organization}, nil
}

// byPassword looks into cred/passwd: password, name, uid, groups.
func (s *Server) byPassword(user, password string) (caller, error) {
	file, err := os.Open(s.Passwd)
	if err != nil {
		return caller{}, err
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.FieldsPerRecord = -1
	records, err := reader.ReadAll()
	if err != nil {
		return caller{}, fmt.Errorf("%s: %w", s.Passwd, err)
	}
	for _, record := range records {
		if len(record) < 4 || record[1] != user {
			continue
		}
		if subtle.ConstantTimeCompare([]byte(record[0]), []byte(password)) != 1 {
			break
		}
		return caller{user, strings.Split(record[3], ",")}, nil
	}
	return caller{}, fmt.Errorf("wrong password for user %q", user)
}

// Verified is the caller's certificate, if its authority signed it for a client and it is valid now.
func Verified(r *http.Request, authorities *x509.CertPool) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	between := x509.NewCertPool()
	for _, certificate := range r.TLS.PeerCertificates[1:] {
		between.AddCert(certificate)
	}
	shown := r.TLS.PeerCertificates[0]
	_, err := shown.Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil
	}
	return shown
}
