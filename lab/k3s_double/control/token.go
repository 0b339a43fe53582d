package control

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"

	"edgefleet.local/k3s_double/pki"
	"edgefleet.local/k3s_double/token"
)

// ensureToken writes server/token, with the hash of the server's authority, and the links to it. A password that differs
// from the one of the first start is refused, as K3s can't read its datastore's bootstrap data with another.
func (o *Options) ensureToken() error {
	given, err := o.givenPassword("token")
	if err != nil {
		return err
	}
	passwd := o.Path("server/cred/passwd")
	records, err := readPasswd(passwd)
	if err != nil {
		return err
	}
	old := passwordOf(records, "server")
	if old != "" && given != "" && old != given {
		return errors.New("bootstrap data already found and encrypted with different token")
	}
	password := firstOf(given, old)
	if password == "" {
		if password, err = randomHex(16); err != nil {
			return err
		}
	}
	ofAgents, err := o.givenPassword("agent-token")
	if err != nil {
		return err
	}
	if err := writePasswd(passwd, firstOf(ofAgents, password), password); err != nil {
		return err
	}
	ca, err := os.ReadFile(o.TLS("server-ca.crt"))
	if err != nil {
		return err
	}
	if err := writeToken(o.Path("server/token"), ca, "server", password); err != nil {
		return err
	}
	if err := ensureLink(o.Path("server/token"), o.Path("server/node-token")); err != nil {
		return err
	}
	if ofAgents == "" {
		return ensureLink(o.Path("server/token"), o.Path("server/agent-token"))
	}
	return writeToken(o.Path("server/agent-token"), ca, "node", ofAgents)
}

func writeToken(path string, ca []byte, user, password string) error {
	full, err := token.Format(ca, user, password)
	if err != nil {
		return err
	}
	return pki.WriteFile(path, []byte(full+"\n"), 0o600)
}

// givenPassword is the configured one of `token` or `agent-token`; the file beats the text.
func (o *Options) givenPassword(key string) (string, error) {
	text := o.settings.String(key)
	if path := o.settings.String(key + "-file"); path != "" {
		var err error
		if text, err = readAwaited(key+"-file", path); err != nil {
			return "", err
		}
		if text == "" {
			return "", fmt.Errorf("%s-file: %s is empty", key, path)
		}
	}
	if text == "" {
		return "", nil
	}
	parsed, err := token.Parse(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return parsed.Password, nil
}

// RotateToken makes another password the cluster's, and the agents' unless they have one of their own. An empty one asks
// for one at random. From then on K3s does not start with the old one any more.
func (o *Options) RotateToken(password string) error {
	passwd := o.Path("server/cred/passwd")
	records, err := readPasswd(passwd)
	if err != nil {
		return err
	}
	old := passwordOf(records, "server")
	if old == "" {
		return errors.New("server token not found")
	}
	if password == "" {
		if password, err = randomHex(16); err != nil {
			return err
		}
	}
	ofAgents := passwordOf(records, "node")
	if ofAgents == old {
		ofAgents = password
	}
	if err := writePasswd(passwd, ofAgents, password); err != nil {
		return err
	}
	ca, err := os.ReadFile(o.TLS("server-ca.crt"))
	if err != nil {
		return err
	}
	return writeToken(o.Path("server/token"), ca, "server", password)
}

func writePasswd(path, ofAgents, ofServers string) error {
	lines := fmt.Sprintf("%s,node,node,k3s:agent\n%s,server,server,k3s:server\n", ofAgents, ofServers)
	return pki.WriteFile(path, []byte(lines), 0o600)
}

func readPasswd(path string) ([][]string, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return records, nil
}

func passwordOf(records [][]string, user string) string {
	for _, record := range records {
		if len(record) > 1 && record[1] == user {
			return record[0]
		}
	}
	return ""
}
