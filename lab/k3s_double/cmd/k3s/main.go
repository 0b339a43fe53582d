// k3s is the lab's double of K3s: one file that carries its programs and hands over to the one that is asked for.
package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/encryption"
	"edgefleet.local/k3s_double/unpack"
)

//go:embed all:payload
var payload embed.FS

// Set at build time.
var (
	version = "dev"
	commit  = "00000000"
)

const (
	defaultDataDir = "/var/lib/rancher/k3s"
	kubeconfig     = "/etc/rancher/k3s/k3s.yaml"
)

// What real K3s has and the double doesn't.
var notYet = []string{
	"etcd-snapshot", "certificate", "token", "check-config", "completion",
}

func main() {
	if err := run(os.Args, os.LookupEnv); err != nil {
		fmt.Fprintln(os.Stderr, "k3s: lab double:", err)
		os.Exit(1)
	}
}

func run(argv []string, env func(string) (string, bool)) error {
	name, args := filepath.Base(argv[0]), argv[1:]
	switch name {
	case "kubectl", "crictl", "ctr":
		return client(name, args, env)
	}
	command, rest, globals, err := split(args)
	if err != nil {
		return err
	}
	switch command {
	case "version":
		printVersion(name)
		return nil
	case "help", "":
		fmt.Println("usage: k3s [--debug] [--data-dir DIR] server|agent|secrets-encrypt|kubectl|crictl|ctr [ARGUMENTS], k3s --version")
		return nil
	case "kubectl", "crictl", "ctr":
		return client(command, rest, env)
	case "secrets-encrypt":
		if dir, ok := config.FlagValue(globals, "data-dir", "d"); ok {
			rest = append(rest, "--data-dir="+dir)
		}
		return encryption.Command(rest, env, os.Stdout)
	case "server", "agent":
		rest = append(globals, rest...)
		dir, err := unpacked(rest, env)
		if err != nil {
			return err
		}
		return handOver(filepath.Join(dir, "bin", "k3s-"+command), append([]string{argv[0], command}, rest...))
	}
	for _, known := range notYet {
		if command == known {
			return fmt.Errorf("`k3s %s` is not in this double yet; it has server, agent, secrets-encrypt, kubectl, crictl and ctr", command)
		}
	}
	return fmt.Errorf("no subcommand %q; it has server, agent, secrets-encrypt, kubectl, crictl and ctr", command)
}

// split finds the subcommand behind the global flags.
func split(args []string) (command string, rest, globals []string, err error) {
	for i := 0; i < len(args); i++ {
		switch name, _, joined := strings.Cut(args[i], "="); name {
		case "-v", "--version", "-version":
			return "version", nil, nil, nil
		case "-h", "--help", "-help":
			return "help", nil, nil, nil
		case "--debug", "-debug":
			globals = append(globals, args[i])
		case "--data-dir", "-data-dir", "-d":
			globals = append(globals, args[i])
			if !joined {
				if i++; i == len(args) {
					return "", nil, nil, fmt.Errorf("flag needs an argument: %s", name)
				}
				globals = append(globals, args[i])
			}
		default:
			if strings.HasPrefix(name, "-") {
				return "", nil, nil, fmt.Errorf("flag provided but not defined: %s", name)
			}
			return args[i], args[i+1:], globals, nil
		}
	}
	return "", nil, globals, nil
}

func printVersion(name string) {
	fmt.Printf("%s version %s (%s)\n", name, version, commit)
	fmt.Printf("go version %s\n", runtime.Version())
	fmt.Println("lab double: made of Kubernetes' own components, not a release of K3s")
}

// client runs a client program with K3s's defaults for what the caller left open.
func client(name string, args []string, env func(string) (string, bool)) error {
	dataDir := dataDir(nil, env)
	dir, err := unpacked(nil, env)
	if err != nil {
		return err
	}
	defaults := map[string][][2]string{
		"kubectl": {{"KUBECONFIG", kubeconfig}},
		"crictl":  {{"CRI_CONFIG_FILE", filepath.Join(dataDir, "agent/etc/crictl.yaml")}},
		"ctr":     {{"CONTAINERD_ADDRESS", "/run/k3s/containerd/containerd.sock"}, {"CONTAINERD_NAMESPACE", "k8s.io"}},
	}
	for _, pair := range defaults[name] {
		if _, ok := env(pair[0]); ok {
			continue
		}
		if name == "kubectl" && !namesKubeconfig(args) && forbidden(kubeconfig) {
			return fmt.Errorf("unable to read %s: start the server with --write-kubeconfig-mode to change its mode, "+
				"or name another with KUBECONFIG or --kubeconfig", kubeconfig)
		}
		if err := os.Setenv(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return handOver(filepath.Join(dir, "bin", name), append([]string{name}, args...))
}

func namesKubeconfig(args []string) bool {
	for _, arg := range args {
		if strings.HasPrefix(arg, "--kubeconfig") {
			return true
		}
	}
	return false
}

func forbidden(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return os.IsPermission(err)
	}
	file.Close()
	return false
}

// dataDir is needed before the configuration is parsed: K3S_DATA_DIR, else the flag, else the default file.
func dataDir(args []string, env func(string) (string, bool)) string {
	if dir, ok := env("K3S_DATA_DIR"); ok && dir != "" {
		return dir
	}
	fromFile, err := config.FileArgs(config.DefaultFile)
	if err != nil { // a client may not read it; the server reports what is wrong with it
		fromFile = nil
	}
	if dir, ok := config.FlagValue(append(fromFile, args...), "data-dir", "d"); ok && dir != "" {
		return dir
	}
	return defaultDataDir
}

func unpacked(args []string, env func(string) (string, bool)) (string, error) {
	content, err := payload.Open("payload/data.tar.zst")
	if err != nil {
		return "", fmt.Errorf("this file was built without its programs: %w", err)
	}
	defer content.Close()
	hash, err := payload.ReadFile("payload/sha256")
	if err != nil {
		return "", err
	}
	dir := dataDir(args, env)
	if home, ok := env("HOME"); ok && os.Getuid() != 0 {
		dir = filepath.Join(home, ".rancher/k3s")
	}
	return unpack.Ensure(dir, strings.TrimSpace(string(hash)), content)
}

// handOver becomes the program; its own programs come first on its PATH, and those that the host may have come last.
func handOver(program string, argv []string) error {
	own := filepath.Dir(program)
	if err := os.Setenv("PATH", own+":"+os.Getenv("PATH")+":"+filepath.Join(own, "aux")); err != nil {
		return err
	}
	return syscall.Exec(program, argv, os.Environ())
}
