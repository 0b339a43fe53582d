package encryption

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"edgefleet.local/k3s_double/join"
)

const (
	dataDir   = "/var/lib/rancher/k3s"
	serverURL = "https://127.0.0.1:6443"
	// rotate-keys waits for the API server, which looks for changes once a minute.
	longest = 90 * time.Second
)

// settings are the flags of `k3s secrets-encrypt`.
type settings struct {
	dataDir, token, server, output string
	force, skip                    bool
}

// order is one subcommand: what it asks for, and what it says when that was done.
type order struct {
	stage  string
	enable *bool
	done   string
}

var (
	yes, no = true, false
	orders  = map[string]order{
		"enable":      {enable: &yes, done: "secrets-encryption enabled"},
		"disable":     {enable: &no, done: "secrets-encryption disabled"},
		"prepare":     {stage: stagePrepare, done: "prepare completed successfully"},
		"rotate":      {stage: stageRotate, done: "rotate completed successfully"},
		"reencrypt":   {stage: stageActive, done: "reencryption started"},
		"rotate-keys": {stage: stageRotateKeys, done: "keys rotated, reencryption started"},
	}
)

// Command is `k3s secrets-encrypt`: it talks to the server that runs here, as that server.
func Command(args []string, env func(string) (string, bool), out io.Writer) error {
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	order, known := orders[name]
	if !known && name != "status" {
		if strings.TrimLeft(name, "-") != "help" && name != "-h" {
			return fmt.Errorf("no subcommand %q of secrets-encrypt", name)
		}
		fmt.Fprintln(out, "usage: k3s secrets-encrypt status|enable|disable|prepare|rotate|reencrypt|rotate-keys "+
			"[--data-dir DIR] [--token TOKEN] [--server URL] [--force] [--skip] [--output text|json]")
		return nil
	}
	chosen, err := parse(args, env)
	if err != nil {
		return err
	}
	client, err := join.Connect(chosen.server, join.Credentials{User: "server", Token: chosen.token})
	if err != nil {
		return err
	}
	if name == "status" {
		return showStatus(client, chosen.output, out)
	}
	request := Request{Enable: order.enable, Force: chosen.force, Skip: chosen.skip}
	if order.stage != "" {
		request.Stage = &order.stage
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if err := client.Put("encrypt/config", body, longest); err != nil {
		return fmt.Errorf("see server log for details: %w", err)
	}
	fmt.Fprintln(out, order.done)
	return nil
}

func parse(args []string, env func(string) (string, bool)) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("secrets-encrypt", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, one := range []struct {
		target   *string
		fallback string
		variable string
		names    []string
	}{
		{&s.dataDir, dataDir, "K3S_DATA_DIR", []string{"data-dir", "d"}},
		{&s.token, "", "K3S_TOKEN", []string{"token", "t"}},
		{&s.server, serverURL, "K3S_URL", []string{"server", "s"}},
		{&s.output, "", "", []string{"output", "o"}},
	} {
		value := one.fallback
		if text, ok := env(one.variable); ok && one.variable != "" && text != "" {
			value = text
		}
		for _, name := range one.names {
			flags.StringVar(one.target, name, value, "")
		}
	}
	for _, name := range []string{"force", "f"} {
		flags.BoolVar(&s.force, name, false, "")
	}
	flags.BoolVar(&s.skip, "skip", false, "")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !slices.Contains([]string{"", "text", "json"}, strings.ToLower(s.output)) {
		return s, fmt.Errorf("invalid output %q: want text or json", s.output)
	}
	if s.token == "" {
		text, err := os.ReadFile(filepath.Join(s.dataDir, "server/token"))
		if err != nil {
			return s, err
		}
		s.token = strings.TrimSpace(string(text))
	}
	return s, nil
}

func showStatus(client *join.Client, output string, out io.Writer) error {
	content, err := client.Get("encrypt/status", nil)
	if err != nil {
		return fmt.Errorf("see server log for details: %w", err)
	}
	var state State
	if err := json.Unmarshal(content, &state); err != nil {
		return err
	}
	if strings.ToLower(output) == "json" {
		text, err := json.MarshalIndent(state, "", "\t")
		if err != nil {
			return err
		}
		fmt.Fprintln(out, string(text))
		return nil
	}
	show(state, out)
	return nil
}

func show(state State, out io.Writer) {
	if state.Enable == nil {
		fmt.Fprintln(out, "Encryption Status: Disabled, no configuration file found")
		return
	}
	word, hashes := "Disabled", state.HashError
	if *state.Enable {
		word = "Enabled"
	}
	if state.HashMatch {
		hashes = "All hashes match"
	}
	fmt.Fprintf(out, "Encryption Status: %s\nCurrent Rotation Stage: %s\nServer Encryption Hashes: %s\n\n", word, state.Stage, hashes)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "Active\tKey Type\tName\n------\t--------\t----\n")
	if state.ActiveKey != "" {
		fmt.Fprintf(table, " *\tAES-CBC\t%s\n", state.ActiveKey)
	}
	for _, key := range state.InactiveKeys {
		fmt.Fprintf(table, "\tAES-CBC\t%s\n", key)
	}
	table.Flush()
	fmt.Fprintln(out)
}
