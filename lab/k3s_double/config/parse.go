// Package config reads the configuration of `k3s server` and `k3s agent` the way K3s v1.30.4 does.
package config

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Settings are the values of all keys after file, command line, environment and defaults.
type Settings struct {
	values map[string][]string
	set    map[string]bool
}

// Result is what reading a configuration gives.
type Result struct {
	Settings Settings
	Warnings []string
}

// Role says whose keys count.
type Role int

const (
	Server Role = iota
	Agent
)

// Parse reads a role's whole configuration. args is the command line after the subcommand. Flags made from the file go
// before it, so that the command line wins for one value and adds to a list. A server drops keys it doesn't know with a
// warning; an agent stops at the first.
func Parse(role Role, args []string, env func(string) (string, bool)) (Result, error) {
	fromFile, err := FileArgs(FilePath(args, env))
	if err != nil {
		return Result{}, err
	}
	flags := flagsOf(role)
	var result Result
	if role == Server {
		fromFile, result.Warnings = skipUnknown(flags, fromFile)
	}
	settings := Settings{values: map[string][]string{}, set: map[string]bool{}}
	if err := settings.readFlags(flags, append(fromFile, args...)); err != nil {
		return Result{}, err
	}
	if err := settings.fillFrom(role, env); err != nil {
		return Result{}, err
	}
	result.Settings = settings
	return result, nil
}

func flagsOf(role Role) map[string]Key {
	flags := map[string]Key{}
	for _, key := range Keys {
		if (role == Server && key.Server) || (role == Agent && key.Agent) {
			flags[key.Name] = key
			if key.Alias != "" {
				flags[key.Alias] = key
			}
		}
	}
	return flags
}

func skipUnknown(flags map[string]Key, args []string) (known, warnings []string) {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if _, ok := flags[name]; ok {
			known = append(known, arg)
		} else {
			warnings = append(warnings, fmt.Sprintf("Unknown flag --%s found in config.yaml, skipping", name))
		}
	}
	return known, warnings
}

func (s *Settings) readFlags(flags map[string]Key, args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name := strings.TrimLeft(arg, "-")
		if dashes := len(arg) - len(name); dashes == 0 || dashes > 2 || name == "" {
			return fmt.Errorf("unexpected argument %q: flags start with one or two dashes", arg)
		}
		name, value, joined := strings.Cut(name, "=")
		key, ok := flags[name]
		if !ok {
			return fmt.Errorf("flag provided but not defined: -%s", name)
		}
		if !joined {
			if key.Kind == Bool {
				value = "true"
			} else if len(args) > 0 {
				value, args = args[0], args[1:]
			} else {
				return fmt.Errorf("flag needs an argument: -%s", name)
			}
		}
		if err := s.add(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *Settings) add(key Key, value string) error {
	if err := check(key, value); err != nil {
		return err
	}
	if key.Kind == List && s.set[key.Name] {
		s.values[key.Name] = append(s.values[key.Name], value)
	} else {
		s.values[key.Name] = []string{value}
	}
	s.set[key.Name] = true
	return nil
}

func check(key Key, value string) error {
	var err error
	switch key.Kind {
	case Bool:
		_, err = strconv.ParseBool(value)
	case Int:
		_, err = strconv.ParseInt(value, 0, 64)
	case Duration:
		_, err = time.ParseDuration(value)
	}
	if err != nil {
		return fmt.Errorf("invalid value %q for flag -%s: %w", value, key.Name, err)
	}
	return nil
}

// fillFrom takes the environment, then the default, for keys that nothing set. Lists in the environment are split at commas.
func (s *Settings) fillFrom(role Role, env func(string) (string, bool)) error {
	for _, key := range Keys {
		if s.set[key.Name] || (role == Server && !key.Server) || (role == Agent && !key.Agent) {
			continue
		}
		if value, ok := env(key.Env); key.Env != "" && ok && value != "" {
			parts := []string{value}
			if key.Kind == List {
				parts = strings.Split(value, ",")
			}
			for _, part := range parts {
				if err := s.add(key, strings.TrimSpace(part)); err != nil {
					return fmt.Errorf("environment variable %s: %w", key.Env, err)
				}
			}
			continue
		}
		s.values[key.Name] = key.Default
	}
	return nil
}

// String is a key's only or last value.
func (s Settings) String(name string) string {
	if values := s.values[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// Bool and Int read what check let pass.
func (s Settings) Bool(name string) bool {
	value, _ := strconv.ParseBool(s.String(name))
	return value
}

func (s Settings) Int(name string) int {
	value, _ := strconv.ParseInt(s.String(name), 0, 64)
	return int(value)
}

// List is a list key's items, as they were written.
func (s Settings) List(name string) []string { return s.values[name] }

// Split is a list key's items, each split at commas, empty ones left out. K3s does this for a few keys only.
func (s Settings) Split(name string) []string {
	var items []string
	for _, value := range s.values[name] {
		for _, item := range strings.Split(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

// IsSet says whether file, command line or environment gave the key.
func (s Settings) IsSet(name string) bool { return s.set[name] }

// SetKeys are the names of all keys that were given, sorted.
func (s Settings) SetKeys() []string {
	var names []string
	for name := range s.set {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
