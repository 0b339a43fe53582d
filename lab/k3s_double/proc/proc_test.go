package proc

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const asParent = "PROC_TEST_PARENT"

// TestMain lets this program also be a parent that is going to be killed.
func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		child, err := Start(Child{Name: "sleep", Path: sleeper(), Args: []string{"60"}, Log: os.Stderr})
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(strconv.Itoa(child.cmd.Process.Pid) + "\n")
		<-child.Done
		return
	}
	os.Exit(m.Run())
}

func sleeper() string {
	path, err := exec.LookPath("sleep")
	if err != nil {
		panic(err)
	}
	return path
}

func TestNothingOutlivesAKilledParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 32)
	n, err := output.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child runs at first: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for range 100 {
		if gone(child) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the child is still there")
}

// gone also counts a zombie that nobody has waited for yet.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestFailureKeepsTheLastLines(t *testing.T) {
	var log bytes.Buffer
	child, err := Start(Child{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "seq 100; echo why >&2; exit 3"}, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	<-child.Done
	text := child.Failure().Error()
	if !strings.HasPrefix(text, "sh ended (exit status 3)") || !strings.HasSuffix(text, "\n100\nwhy") {
		t.Errorf("got %q", text)
	}
	if strings.Contains(text, "\n50\n") || !strings.Contains(log.String(), "sh: 50\n") {
		t.Error("the log has all lines, the error the last")
	}
}

func TestAGrandchildWithTheOutputDoesNotHideTheEnd(t *testing.T) {
	child, err := Start(Child{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "sleep 20 & exit 1"}, Log: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.Done:
	case <-time.After(10 * time.Second):
		t.Fatal("its end is not noticed")
	}
}

func TestMissingProgram(t *testing.T) {
	if _, err := Start(Child{Name: "x", Path: "/nowhere"}); err == nil || !strings.Contains(err.Error(), "starting x") {
		t.Errorf("got %v", err)
	}
}
