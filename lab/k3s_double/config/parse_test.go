package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes a folder of files and returns where config.yaml is, or would be.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "config.yaml")
}

func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestFileArgs(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no file at all":        {nil, nil},
		"scalar and list":       {map[string]string{"config.yaml": "data-dir: /x\ntls-san: [a, b]\n"}, []string{"--data-dir=/x", "--tls-san=a", "--tls-san=b"}},
		"one letter":            {map[string]string{"config.yaml": "t: secret\n"}, []string{"-t=secret"}},
		"empty list":            {map[string]string{"config.yaml": "disable: []\ndebug: true\n"}, []string{"--debug=true"}},
		"null":                  {map[string]string{"config.yaml": "token:\n"}, []string{"--token="}},
		"yes is a bool":         {map[string]string{"config.yaml": "debug: yes\nselinux: off\n"}, []string{"--debug=true", "--selinux=false"}},
		"octal":                 {map[string]string{"config.yaml": "write-kubeconfig-mode: 0644\n"}, []string{"--write-kubeconfig-mode=420"}},
		"quoted octal":          {map[string]string{"config.yaml": "write-kubeconfig-mode: \"0644\"\n"}, []string{"--write-kubeconfig-mode=0644"}},
		"underscore":            {map[string]string{"config.yaml": "v: 1_000\n"}, []string{"-v=1000"}},
		"exponent":              {map[string]string{"config.yaml": "token: 1e5\n"}, []string{"--token=100000"}},
		"blanks around":         {map[string]string{"config.yaml": "token: \" x \"\n"}, []string{"--token=x"}},
		"commas stay":           {map[string]string{"config.yaml": "node-label: a=b,c=d\n"}, []string{"--node-label=a=b,c=d"}},
		"map in a list":         {map[string]string{"config.yaml": "kubelet-arg:\n- max-pods: 110\n"}, []string{"--kubelet-arg=map[max-pods:110]"}},
		"drop-in replaces":      {map[string]string{"config.yaml": "tls-san: [a]\ndebug: true\n", "config.yaml.d/1.yaml": "tls-san: [b]\n"}, []string{"--tls-san=b", "--debug=true"}},
		"drop-in appends":       {map[string]string{"config.yaml": "tls-san: [a]\n", "config.yaml.d/1.yaml": "tls-san+: [b]\n"}, []string{"--tls-san=a", "--tls-san=b"}},
		"append to a scalar":    {map[string]string{"config.yaml": "tls-san: a\n", "config.yaml.d/1.yaml": "tls-san+: b\n"}, []string{"--tls-san=a", "--tls-san=b"}},
		"append in one file":    {map[string]string{"config.yaml": "tls-san: a\ntls-san+: [b]\n"}, []string{"--tls-san=a", "--tls-san=b"}},
		"append to nothing":     {map[string]string{"config.yaml": "tls-san+: [b]\n"}, []string{"--tls-san=b"}},
		"drop-ins by name":      {map[string]string{"config.yaml.d/2.yml": "token: two\n", "config.yaml.d/10.YAML": "token: ten\n"}, []string{"--token=two"}},
		"other files are not":   {map[string]string{"config.yaml.d/1.yaml.bak": "token: x\n", "config.yaml.d/sub/1.yaml": "token: y\n"}, nil},
		"drop-ins without file": {map[string]string{"config.yaml.d/1.yaml": "debug: true\n"}, []string{"--debug=true"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FileArgs(write(t, test.files))
			if err != nil || !slices.Equal(got, test.want) {
				t.Fatalf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestBadYAMLIsFatalAndNamesTheFile(t *testing.T) {
	path := write(t, map[string]string{"config.yaml.d/1.yaml": "a: [\n"})
	if _, err := FileArgs(path); err == nil || !strings.Contains(err.Error(), "config.yaml.d/1.yaml") {
		t.Fatalf("got %v", err)
	}
}

func TestFilePath(t *testing.T) {
	none := environment()
	for name, test := range map[string]struct {
		args []string
		env  func(string) (string, bool)
		want string
	}{
		"default":         {nil, none, DefaultFile},
		"flag":            {[]string{"--debug", "--config", "/f"}, none, "/f"},
		"short flag":      {[]string{"-c=/f"}, none, "/f"},
		"environment":     {[]string{"--config=/f"}, environment("K3S_CONFIG_FILE", "/e"), "/e"},
		"not a flag name": {[]string{"config", "x"}, none, DefaultFile},
	} {
		if got := FilePath(test.args, test.env); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func parse(t *testing.T, role Role, file string, args []string, env ...string) (Result, error) {
	t.Helper()
	path := write(t, map[string]string{"config.yaml": file})
	return Parse(role, args, environment(append(env, "K3S_CONFIG_FILE", path)...))
}

func TestPrecedence(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		args []string
		env  []string
		key  string
		want []string
	}{
		"default":                       {"", nil, nil, "data-dir", []string{"/var/lib/rancher/k3s"}},
		"environment over default":      {"", nil, []string{"K3S_TOKEN", "e"}, "token", []string{"e"}},
		"file over environment":         {"token: f\n", nil, []string{"K3S_TOKEN", "e"}, "token", []string{"f"}},
		"command line over file":        {"token: f\n", []string{"--token", "c"}, nil, "token", []string{"c"}},
		"lists add up":                  {"tls-san: [f]\n", []string{"--tls-san=c"}, nil, "tls-san", []string{"f", "c"}},
		"given list drops the default":  {"cluster-cidr: 10.1.0.0/16\n", nil, nil, "cluster-cidr", []string{"10.1.0.0/16"}},
		"false in the file wins":        {"debug: false\n", nil, []string{"K3S_DEBUG", "true"}, "debug", []string{"false"}},
		"bare bool":                     {"", []string{"--secrets-encryption"}, nil, "secrets-encryption", []string{"true"}},
		"alias":                         {"", []string{"-t", "c"}, nil, "token", []string{"c"}},
		"key by its alias":              {"i: 10.0.0.1\n", nil, nil, "node-ip", []string{"10.0.0.1"}},
		"last of two on the line":       {"", []string{"--token=a", "--token=b"}, nil, "token", []string{"b"}},
		"empty variable does not count": {"", nil, []string{"K3S_DATA_DIR", ""}, "data-dir", []string{"/var/lib/rancher/k3s"}},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := parse(t, Server, test.file, test.args, test.env...)
			if err != nil {
				t.Fatal(err)
			}
			if got := result.Settings.List(test.key); !slices.Equal(got, test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnknownKeys(t *testing.T) {
	result, err := parse(t, Server, "nonsense: 1\ndebug: true\n", nil)
	if err != nil || !result.Settings.Bool("debug") {
		t.Fatalf("a server goes on: %v", err)
	}
	if len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "Unknown flag --nonsense found") {
		t.Fatalf("and warns: %q", result.Warnings)
	}
	if _, err = parse(t, Agent, "nonsense: 1\n", nil); err == nil || err.Error() != "flag provided but not defined: -nonsense" {
		t.Fatalf("an agent stops: %v", err)
	}
	if _, err = parse(t, Agent, "cluster-cidr: 10.1.0.0/16\n", nil); err == nil {
		t.Fatal("for an agent a server's key is unknown")
	}
	if _, err = parse(t, Server, "", []string{"--nonsense"}); err == nil {
		t.Fatal("on the command line an unknown flag is an error")
	}
}

func TestBadValues(t *testing.T) {
	for file, want := range map[string]string{
		"debug: maybe\n":                 `invalid value "maybe" for flag -debug`,
		"debug:\n":                       `invalid value "" for flag -debug`,
		"https-listen-port: many\n":      `invalid value "many" for flag -https-listen-port`,
		"etcd-s3-timeout: soon\n":        `invalid value "soon" for flag -etcd-s3-timeout`,
		"secrets-encryption: [a, b]\n":   `invalid value "a" for flag -secrets-encryption`,
		"etcd-snapshot-retention: 1.5\n": `invalid value "1.5" for flag -etcd-snapshot-retention`,
	} {
		if _, err := parse(t, Server, file, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", file, err, want)
		}
	}
	for _, args := range [][]string{{"word"}, {"---token=x"}, {"--token"}} {
		if _, err := parse(t, Server, "", args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestSplit(t *testing.T) {
	result, err := parse(t, Server, "disable: [\"traefik, servicelb\", coredns]\nnode-label: [\"a=b,c=d\"]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := result.Settings.Split("disable"); !slices.Equal(got, []string{"traefik", "servicelb", "coredns"}) {
		t.Errorf("got %q", got)
	}
	if got := result.Settings.List("node-label"); !slices.Equal(got, []string{"a=b,c=d"}) {
		t.Errorf("node labels are not split: %q", got)
	}
}

func TestComponentArgs(t *testing.T) {
	defaults := map[string]string{"eviction-hard": "a<5%", "profiling": "false"}
	for name, test := range map[string]struct{ extra, want []string }{
		"defaults":        {nil, []string{"--eviction-hard=a<5%", "--profiling=false"}},
		"same name":       {[]string{"eviction-hard=b<1"}, []string{"--eviction-hard=b<1", "--profiling=false"}},
		"dashes":          {[]string{"--profiling=true"}, []string{"--eviction-hard=a<5%", "--profiling=true"}},
		"append":          {[]string{"eviction-hard+=b<1"}, []string{"--eviction-hard=a<5%", "--eviction-hard=b<1", "--profiling=false"}},
		"prepend":         {[]string{"eviction-hard-=b<1"}, []string{"--eviction-hard=b<1", "--eviction-hard=a<5%", "--profiling=false"}},
		"bare":            {[]string{"profiling"}, []string{"--eviction-hard=a<5%", "--profiling=true"}},
		"repeated":        {[]string{"x=1", "x=2"}, []string{"--eviction-hard=a<5%", "--profiling=false", "--x=1", "--x=2"}},
		"value with sign": {[]string{"x=a=b+c"}, []string{"--eviction-hard=a<5%", "--profiling=false", "--x=a=b+c"}},
		"dash in a name":  {[]string{"eviction-hard=x", "eviction-hard+=y"}, []string{"--eviction-hard=x", "--eviction-hard=y", "--profiling=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ComponentArgs(defaults, test.extra); !slices.Equal(got, test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
		})
	}
}
