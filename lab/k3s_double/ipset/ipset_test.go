package ipset

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run calls the program with text on its standard input.
func run(kernel Kernel, in string, args ...string) (string, error) {
	var out strings.Builder
	program := Program{Kernel: kernel, In: strings.NewReader(in), Out: &out}
	err := program.Run(args)
	return out.String(), err
}

// recorder takes everything.
type recorder struct{ commands []uint8 }

func (r *recorder) Send(command uint8, _ uint16, _ uint8, _ []byte) ([][]byte, error) {
	r.commands = append(r.commands, command)
	return nil, nil
}

func TestRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                           "no command specified",
		"rename a b":                 `unknown command "rename"`,
		"create a":                   "create: missing argument",
		"create a hash:mac":          `unsupported type "hash:mac"`,
		"create a hash:ip counters":  `unsupported option "counters"`,
		"create a hash:ip maxelem x": `maxelem "x" is no number`,
		"create a hash:ip timeout":   `unsupported option "timeout"`,
		"create a hash:ip family 4":  `unknown family "4"`,
		"add a edge1":                `"edge1" is no address`,
		"add a 10.0.0.0/33":          `"10.0.0.0/33" is no network`,
		"add a 10.0.0.1 comment x":   `unsupported option "comment"`,
		"add a 10.0.0.1 timeout x":   `timeout "x" is no number`,
	} {
		kernel := &recorder{}
		if _, err := run(kernel, "", strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", line, err, want)
		}
		if len(kernel.commands) > 0 {
			t.Errorf("%q: something reached the kernel", line)
		}
	}
}

func TestRestoreNamesTheLine(t *testing.T) {
	kernel := &recorder{}
	_, err := run(kernel, "create a hash:ip\n\nadd a x\nadd a 10.0.0.1\n", "restore", "-exist")
	if err == nil || !strings.HasPrefix(err.Error(), "error in line 3: ") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(kernel.commands, []uint8{commandCreate}) {
		t.Errorf("got %v", kernel.commands)
	}
}

// ownKernel is the machine's, in a network namespace of its own.
func ownKernel(t *testing.T) Linux {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("sets can only be made by root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
	if _, err := run(Linux{}, "", "save"); err != nil {
		t.Skipf("this kernel has no sets: %v", err)
	}
	return Linux{}
}

func TestOnTheKernel(t *testing.T) {
	kernel := ownKernel(t)
	must := func(in string, args ...string) string {
		t.Helper()
		out, err := run(kernel, in, args...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return out
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if _, err := run(kernel, "", args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", args, err, want)
		}
	}
	fails("The set with the given name does not exist", "list", "A")
	must("", "create", "A", "hash:ip", "timeout", "0")
	fails("set with the same name already exists", "create", "A", "hash:ip", "timeout", "0")
	must("", "create", "-exist", "A", "hash:ip", "timeout", "0")
	// As the policy controller does it: fill a new set, exchange both, throw the old one away.
	must(strings.Join([]string{
		"create TMP hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1 timeout 0", "flush TMP",
		"add TMP 10.0.0.0/8 timeout 0", "add TMP 10.2.0.0/16 timeout 0 nomatch", "add TMP 10.1.2.3/32 timeout 0",
		"create N hash:net timeout 0", "swap TMP N", "flush TMP", "destroy TMP", "add A 10.9.8.7 timeout 0",
	}, "\n"), "restore", "-exist")
	saved := must("", "save")
	for _, want := range []string{
		"create A hash:ip family inet hashsize 1024 maxelem 65536 timeout 0\nadd A 10.9.8.7 timeout 0\n",
		"create N hash:net family inet hashsize 1024 maxelem 65536 timeout 0\n",
		"add N 10.0.0.0/8 timeout 0\n", "add N 10.2.0.0/16 timeout 0 nomatch\n", "add N 10.1.2.3 timeout 0\n",
	} {
		if !strings.Contains(saved, want) {
			t.Errorf("no %q in\n%s", want, saved)
		}
	}
	if strings.Contains(saved, "TMP") {
		t.Error("the old set is still there")
	}
	must(saved, "restore", "-exist")
	if again := must("", "save"); again != saved {
		t.Errorf("restored it differs:\n%s", again)
	}
	must("", "del", "A", "10.9.8.7")
	if listed := must("", "list", "A"); !strings.HasSuffix(listed, "Members:\n") {
		t.Errorf("got %s", listed)
	}
	must("", "destroy")
	if left := must("", "save"); left != "" {
		t.Errorf("got %s", left)
	}
}

func TestLargeSetAndSix(t *testing.T) {
	kernel := ownKernel(t)
	var lines strings.Builder
	lines.WriteString("create BIG hash:ip\ncreate SIX hash:net family inet6\nadd SIX fd00::/8\n")
	const count = 5000
	for i := range count {
		lines.WriteString("add BIG 10.0." + strconv.Itoa(i/250) + "." + strconv.Itoa(i%250) + "\n")
	}
	if _, err := run(kernel, lines.String(), "restore"); err != nil {
		t.Fatal(err)
	}
	out, err := run(kernel, "", "save", "BIG")
	if err != nil || strings.Count(out, "add BIG") != count || strings.Count(out, "create BIG") != 1 {
		t.Errorf("got %d members, %v", strings.Count(out, "add BIG"), err)
	}
	if out, err = run(kernel, "", "save", "SIX"); err != nil || !strings.HasSuffix(out, "add SIX fd00::/8\n") {
		t.Errorf("got %s, %v", out, err)
	}
}
