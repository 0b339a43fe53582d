package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for name, test := range map[string]struct {
		args          []string
		command       string
		rest, globals []string
	}{
		"server":              {[]string{"server", "--debug"}, "server", []string{"--debug"}, nil},
		"global flags":        {[]string{"--debug", "-d", "/x", "server", "-t", "y"}, "server", []string{"-t", "y"}, []string{"--debug", "-d", "/x"}},
		"joined":              {[]string{"--data-dir=/x", "server"}, "server", nil, []string{"--data-dir=/x"}},
		"version":             {[]string{"--version"}, "version", nil, nil},
		"short version":       {[]string{"-v"}, "version", nil, nil},
		"nothing":             {nil, "", nil, nil},
		"flags of a client":   {[]string{"kubectl", "-v", "6", "get"}, "kubectl", []string{"-v", "6", "get"}, nil},
		"verbosity of server": {[]string{"server", "-v=2"}, "server", []string{"-v=2"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			command, rest, globals, err := split(test.args)
			if err != nil || command != test.command || !slices.Equal(rest, test.rest) || !slices.Equal(globals, test.globals) {
				t.Fatalf("got %q %q %q %v", command, rest, globals, err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	for want, argv := range map[string][]string{
		"`k3s token` is not in this double yet": {"k3s", "token"},
		`no subcommand "serve"`:                 {"k3s", "serve"},
		"flag provided but not defined: --tok":  {"k3s", "--tok"},
		"flag needs an argument: --data-dir":    {"k3s", "--data-dir"},
		"was built without its programs":        {"/usr/local/bin/kubectl", "get", "node"},
	} {
		if err := run(argv, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", argv, err, want)
		}
	}
}

func TestDataDir(t *testing.T) {
	set := func(string) (string, bool) { return "/env", true }
	none := func(string) (string, bool) { return "", false }
	if got := dataDir([]string{"--data-dir=/flag"}, set); got != "/env" {
		t.Errorf("got %s", got)
	}
	if got := dataDir([]string{"--data-dir=/flag"}, none); got != "/flag" {
		t.Errorf("got %s", got)
	}
}
