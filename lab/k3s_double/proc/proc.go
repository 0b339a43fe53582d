// Package proc runs programs that must not outlive their parent, not even when it is killed.
package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	tailLines = 15
	drainTime = 200 * time.Millisecond
)

// Child is a program to run.
type Child struct {
	Name string // also its argv[0]
	Path string
	Args []string
	Dir  string
	Env  []string
	Log  io.Writer // gets each line, with the name before it
}

// Process is a running child.
type Process struct {
	Name string
	Done <-chan struct{}
	cmd  *exec.Cmd
	tail tail
	err  error
}

// Start runs the child. The kernel kills it when the thread that started it ends, so that thread is kept for it.
func Start(child Child) (*Process, error) {
	output, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	process := &Process{Name: child.Name, Done: done, cmd: &exec.Cmd{
		Path: child.Path, Args: append([]string{child.Name}, child.Args...), Dir: child.Dir, Env: child.Env,
		Stdout: input, Stderr: input, SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}}
	started := make(chan error, 1)
	go func() {
		// Ends with the goroutine, which stays locked to it until the child has gone.
		runtime.LockOSThread()
		err := process.cmd.Start()
		input.Close()
		started <- err
		if err != nil {
			output.Close()
			return
		}
		drained := make(chan struct{})
		go func() {
			process.tail.follow(output, child.Name, child.Log)
			close(drained)
		}()
		process.err = process.cmd.Wait()
		select {
		case <-drained:
		case <-time.After(drainTime): // a grandchild holds the pipe
		}
		output.Close()
		close(done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", child.Name, err)
	}
	return process, nil
}

// Stop asks the child to end.
func (p *Process) Stop() { _ = p.cmd.Process.Signal(syscall.SIGTERM) } // an error means that it has ended

// Failure tells how the child ended and what it said last. Valid once Done is closed.
func (p *Process) Failure() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended (%s); its last lines:\n%s", p.Name, how, p.tail.text())
}

type tail struct {
	mutex sync.Mutex
	lines []string
}

func (t *tail) follow(from io.Reader, name string, log io.Writer) {
	reader := bufio.NewReader(from)
	for {
		line, err := reader.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			t.add(line)
			fmt.Fprintf(log, "%s: %s\n", name, line)
		}
		if err != nil {
			return
		}
	}
}

func (t *tail) add(line string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) text() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return strings.Join(t.lines, "\n")
}
