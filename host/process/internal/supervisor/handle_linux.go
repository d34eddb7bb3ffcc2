package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// executable is the program that runs, also if its file has been replaced.
const executable = "/proc/self/exe"

// Supported reports whether the running program can be its own supervisor. It cannot if
// its Go code is a library of a program in another language.
var Supported = sync.OnceValue(func() bool {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-buildmode" && strings.HasPrefix(s.Value, "c-") {
				return false
			}
		}
	}
	_, err := os.Stat(executable)
	return err == nil
})

// Handle is a program and its supervisor. It is safe for concurrent use.
type Handle struct {
	// Pid is the program's process id. The id may belong to another process after the
	// program has ended.
	Pid int

	cmd     *exec.Cmd // the supervisor
	life    *os.File
	reports *bufio.Reader
	status  syscall.WaitStatus // of the program, after exited
	known   bool               // whether status is known
	exited  chan struct{}      // closed when the program has ended
	over    chan struct{}      // closed when the supervisor has ended
	end     sync.Once
	ending  sync.WaitGroup
}

// Start runs a command that has not been started under a supervisor, which becomes the
// command's Process. The caller calls Wait on the handle, not on the command. If the
// command has a context, End is called when that is done. The error is one that the
// command's own Start would return.
func Start(cmd *exec.Cmd) (*Handle, error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer lifeRead.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, lifeWrite.Close())
	}
	h := &Handle{cmd: cmd, life: lifeWrite, reports: bufio.NewReader(statusRead), exited: make(chan struct{}), over: make(chan struct{})}
	program := cmd.Path
	cmd.Args = slices.Concat([]string{"penstock-supervisor", program}, cmd.Args)
	cmd.Path = executable
	cmd.Env = append(cmd.Environ(), variable+"=1")
	cmd.ExtraFiles = []*os.File{lifeRead, statusWrite} // lifeFile and statusFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.Cancel != nil {
		cmd.Cancel = func() error {
			h.End()
			return nil
		}
	}
	err = cmd.Start()
	_ = statusWrite.Close() // the supervisor has its own
	if err != nil {
		return nil, errors.Join(err, lifeWrite.Close(), statusRead.Close())
	}
	err = h.awaitStart(program)
	go func() {
		h.follow()
		_ = statusRead.Close()
	}()
	if err != nil {
		h.End()
		_ = h.Wait() // err says more
		return nil, err
	}
	return h, nil
}

// awaitStart reads the first report.
func (h *Handle) awaitStart(program string) error {
	line, err := h.reports.ReadString('\n')
	if _, bad := fmt.Sscanf(line, reportStarted, &h.Pid); bad == nil {
		return nil
	}
	var number int
	if _, bad := fmt.Sscanf(line, reportFailed, &number); bad == nil {
		err = syscall.Errno(number)
	} else {
		err = fmt.Errorf("its supervisor has ended: %w", err)
	}
	return &os.PathError{Op: "fork/exec", Path: program, Err: err}
}

// follow reads the other reports, and returns when the supervisor has ended.
func (h *Handle) follow() {
	for {
		line, err := h.reports.ReadString('\n')
		if err != nil {
			break
		}
		var number int
		if _, err := fmt.Sscanf(line, reportExited, &number); err == nil && !h.known {
			h.status, h.known = syscall.WaitStatus(number), true
			close(h.exited)
		}
	}
	if !h.known {
		close(h.exited)
	}
	close(h.over)
}

// Exited is closed when the program has ended, and maybe not all of its descendants.
func (h *Handle) Exited() <-chan struct{} { return h.exited }

// Status returns how the program ended. It may be called once Exited is closed. ok is false
// if the supervisor was killed: the program then is too, but not its descendants.
func (h *Handle) Status() (status syscall.WaitStatus, ok bool) { return h.status, h.known }

// attempts is how often End attempts what the supervisor should have done.
const attempts = 100 * time.Millisecond

// End has the program and its descendants killed, and returns before they are. Only the
// first call has an effect.
func (h *Handle) End() {
	h.end.Do(func() {
		_ = h.life.Close()
		h.ending.Go(func() {
			timer := time.NewTicker(attempts)
			defer timer.Stop()
			for {
				// A program may have stopped its supervisor, and may do it again.
				_ = h.cmd.Process.Signal(syscall.SIGCONT) // fails if it has ended
				select {
				case <-h.over:
					return
				case <-timer.C:
					Kill(h.cmd.Process.Pid, func(int) {})
				}
			}
		})
	})
}

// Wait waits until the program and all of its descendants have ended, and releases what
// the handle holds. It is called once.
func (h *Handle) Wait() error {
	<-h.over
	h.End() // closes the life pipe
	h.ending.Wait()
	return h.cmd.Wait() // frees the supervisor's process id, which End used
}
