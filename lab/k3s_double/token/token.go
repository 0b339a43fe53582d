// Package token reads the tokens that agents join with: K10<hash of the authority>::<user>:<password>, or a bare password.
package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const prefix = "K10"

var bootstrap = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)

// Token is one that was taken apart. Without a hash whoever answers is believed.
type Token struct {
	Hash, User, Password string
}

// Parse takes a token apart. A bare password has neither hash nor user.
func Parse(text string) (Token, error) {
	if text == "" {
		return Token{}, errors.New("token must not be empty")
	}
	credentials, parsed := ":"+text, Token{}
	if strings.HasPrefix(text, prefix) {
		hash, rest, whole := strings.Cut(text[len(prefix):], "::")
		if !whole {
			hash, rest = "", hash
		}
		if hash != "" && len(hash) != hex.EncodedLen(sha256.Size) {
			return Token{}, errors.New("invalid token CA hash length")
		}
		credentials, parsed.Hash = rest, hash
	}
	if bootstrap.MatchString(strings.TrimPrefix(credentials, ":")) {
		return Token{}, errors.New("this token has the form of a bootstrap token (6 characters, a dot, 16 characters): " +
			"those are not in this double")
	}
	user, password, ok := strings.Cut(credentials, ":")
	if !ok || password == "" {
		return Token{}, errors.New("invalid token format")
	}
	parsed.User, parsed.Password = user, password
	return parsed, nil
}

// Format is the full form.
func Format(authority []byte, user, password string) (string, error) {
	hash, err := Hash(authority)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%s::%s:%s", prefix, hash, user, password), nil
}

// Hash is that of an authority's file: of its bytes, or, if it is a chain, of the root's certificate, so that the
// authority below can be exchanged.
func Hash(file []byte) (string, error) {
	var certificates []*x509.Certificate
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", err
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return "", errors.New("the authority's file holds no certificate")
	}
	hashed := file
	if len(certificates) > 1 {
		if root := rootOf(certificates); root != nil {
			hashed = root.Raw
		}
	}
	sum := sha256.Sum256(hashed)
	return hex.EncodeToString(sum[:]), nil
}

func rootOf(chain []*x509.Certificate) *x509.Certificate {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, one := range chain[1:] {
		if len(one.AuthorityKeyId) == 0 || bytes.Equal(one.AuthorityKeyId, one.SubjectKeyId) {
			roots.AddCert(one)
		} else {
			between.AddCert(one)
		}
	}
	found, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	if err != nil {
		return nil
	}
	return found[0][len(found[0])-1]
}

// Check compares the hash with the authority that a server shows. A token without hash is let pass: the caller warns.
func (t Token) Check(authority []byte) error {
	if t.Hash == "" {
		return nil
	}
	hash, err := Hash(authority)
	if err != nil {
		return err
	}
	if hash != t.Hash {
		return fmt.Errorf("token CA hash does not match the Cluster CA certificate hash: %s != %s", t.Hash, hash)
	}
	return nil
}
