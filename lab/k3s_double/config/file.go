package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"gopkg.in/yaml.v2"
)

// DefaultFile is read when neither K3S_CONFIG_FILE nor --config names another.
const DefaultFile = "/etc/rancher/k3s/config.yaml"

// FilePath chooses the configuration file: the environment wins over the flag.
func FilePath(args []string, env func(string) (string, bool)) string {
	if path, ok := env("K3S_CONFIG_FILE"); ok && path != "" {
		return path
	}
	if path, ok := FlagValue(args, "config", "c"); ok {
		return path
	}
	return DefaultFile
}

// FlagValue finds a flag before the real parsing starts, the last one winning.
func FlagValue(args []string, name, alias string) (string, bool) {
	value, found := "", false
	for i, arg := range args {
		flag := strings.TrimLeft(arg, "-")
		if flag == arg || len(arg)-len(flag) > 2 {
			continue
		}
		key, text, joined := strings.Cut(flag, "=")
		if key != name && key != alias {
			continue
		}
		if joined {
			value, found = text, true
		} else if i+1 < len(args) {
			value, found = args[i+1], true
		}
	}
	return value, found
}

// FileArgs are the flags that a configuration file and its drop-ins stand for, in the order of the keys' first mention.
// A file that is not there is no error, not even one named by hand.
func FileArgs(path string) ([]string, error) {
	files, err := dropIns(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err == nil {
		files = append([]string{path}, files...)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var merged yaml.MapSlice
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var content yaml.MapSlice
		if err := yaml.Unmarshal(text, &content); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		merged = merge(merged, content)
	}
	return toArgs(merged), nil
}

// dropIns are <file>.d/*.yaml and *.yml, sorted by name.
func dropIns(path string) ([]string, error) {
	folder := path + ".d"
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		suffix := strings.ToLower(filepath.Ext(entry.Name()))
		if !entry.IsDir() && (suffix == ".yaml" || suffix == ".yml") {
			files = append(files, filepath.Join(folder, entry.Name()))
		}
	}
	sort.Strings(files)
	return files, nil
}

// merge puts later keys over earlier ones. `key+` appends instead; it works within one file too.
func merge(base, over yaml.MapSlice) yaml.MapSlice {
	for _, item := range over {
		name := fmt.Sprint(item.Key)
		key, appends := strings.CutSuffix(name, "+")
		at := indexOf(base, key)
		switch {
		case at < 0:
			base = append(base, yaml.MapItem{Key: key, Value: item.Value})
		case appends:
			base[at].Value = append(asList(base[at].Value), asList(item.Value)...)
		default:
			base[at].Value = item.Value
		}
	}
	return base
}

func indexOf(items yaml.MapSlice, key string) int {
	for i, item := range items {
		if item.Key == key {
			return i
		}
	}
	return -1
}

func asList(value any) []any {
	if list, ok := value.([]any); ok {
		return append([]any(nil), list...)
	}
	return []any{value}
}

func toArgs(items yaml.MapSlice) []string {
	var args []string
	for _, item := range items {
		key := fmt.Sprint(item.Key)
		prefix := "--"
		if len(key) == 1 {
			prefix = "-"
		}
		if list, ok := item.Value.([]any); ok {
			for _, element := range list {
				args = append(args, prefix+key+"="+text(element))
			}
			continue
		}
		args = append(args, prefix+key+"="+text(item.Value))
	}
	return args
}

// text writes a YAML 1.1 value as K3s does: booleans as true and false, numbers in decimal, no outer blanks, and a map as
// Go prints one, which no component accepts.
func text(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case float64:
		return strings.TrimSpace(fmt.Sprintf("%v", trimFloat(v)))
	case yaml.MapSlice:
		pairs := map[any]any{}
		for _, item := range v {
			pairs[item.Key] = item.Value
		}
		return fmt.Sprint(pairs)
	default:
		return strings.TrimSpace(fmt.Sprint(v))
	}
}

// trimFloat keeps a whole number from being printed with an exponent.
func trimFloat(value float64) any {
	if whole := int64(value); float64(whole) == value {
		return whole
	}
	return value
}
