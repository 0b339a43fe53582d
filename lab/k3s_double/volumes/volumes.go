// Package volumes keeps the folders that volumes of class local-path are.
package volumes

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

const anyOtherNode = "DEFAULT_PATH_FOR_NON_LISTED_NODES"

// Base is one of the paths that config.json of the ConfigMap local-path-config has for a node.
func Base(config, node string) (string, error) {
	var content struct {
		NodePathMap []struct {
			Node  string   `json:"node"`
			Paths []string `json:"paths"`
		} `json:"nodePathMap"`
	}
	if err := json.Unmarshal([]byte(config), &content); err != nil {
		return "", fmt.Errorf("config.json of ConfigMap local-path-config: %w", err)
	}
	byNode := map[string][]string{}
	for _, one := range content.NodePathMap {
		byNode[one.Node] = one.Paths
	}
	paths, listed := byNode[node]
	if !listed {
		paths = byNode[anyOtherNode]
	}
	if len(paths) == 0 {
		return "", fmt.Errorf("no local path available on node %s: ConfigMap local-path-config names none", node)
	}
	return paths[rand.IntN(len(paths))], nil
}

// Make has the folder of a volume there. Pods of any user write into it, but only root comes to it from the host.
func Make(base, volume, namespace, claim string) (string, error) {
	folder := filepath.Join(base, strings.Join([]string{volume, namespace, claim}, "_"))
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", err
	}
	if err := os.Mkdir(folder, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return folder, os.Chmod(folder, 0o777) // whatever the umask
}

// Remove deletes it with all that is in it. What does not look like a folder of this volume is left alone.
func Remove(folder, volume string) error {
	if !filepath.IsAbs(folder) || !strings.HasPrefix(filepath.Base(folder), volume+"_") {
		return fmt.Errorf("volume %s: %q is no folder of this provisioner", volume, folder)
	}
	return os.RemoveAll(folder)
}
