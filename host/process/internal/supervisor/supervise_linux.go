package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// variable marks the environment of a supervisor. The program that it runs does not get
// the variable.
const variable = "PENSTOCK_SUPERVISE"

// The files of a supervisor.
const (
	lifeFile   = 3 // the reading end of a pipe whose writing end only the host holds
	statusFile = 4 // the writing end of the pipe for the reports below
)

// What a supervisor reports, one on each line.
const (
	reportStarted = "started %d\n" // the program's process id
	reportFailed  = "failed %d\n"  // the error number; the program was not started
	reportExited  = "exited %d\n"  // the program's wait status; its descendants are killed next
)

func init() {
	if _, ok := os.LookupEnv(variable); ok {
		os.Exit(supervise())
	}
}

// supervise runs the program that the arguments name, path first, and returns when
// neither it nor a descendant of it is left. It kills them when the program ends, and when
// the life pipe is closed.
//
// It runs on the main thread: the kernel kills the program when the thread that started it
// ends.
func supervise() int {
	for _, file := range []int{lifeFile, statusFile} {
		var state syscall.Stat_t
		if err := syscall.Fstat(file, &state); err != nil || state.Mode&syscall.S_IFMT != syscall.S_IFIFO || len(os.Args) < 3 {
			fmt.Fprintf(os.Stderr, "%s is set, which only Penstock sets for its own child processes: unset it\n", variable)
			return 2
		}
		syscall.CloseOnExec(file)
	}
	status := os.NewFile(statusFile, "status")
	// If a report cannot be written, the host is gone, and the life pipe says so too.
	report := func(format string, n int) { _, _ = fmt.Fprintf(status, format, n) }
	fail := func(err error) int {
		number, ok := err.(syscall.Errno)
		if !ok {
			number = syscall.EINVAL
		}
		report(reportFailed, int(number))
		return 1
	}
	if err := os.Unsetenv(variable); err != nil {
		return fail(err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	// These may be sent to all processes of a service. The host decides when to end. A
	// signal that is caught, unlike one that is ignored, has its default effect again in the
	// program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	program, err := syscall.ForkExec(os.Args[1], os.Args[2:], &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		// The process group is one that the terminal's Ctrl-C does not reach. The signal
		// ends the program if the supervisor is killed.
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return fail(err)
	}
	report(reportStarted, program)

	var end ender
	go func() {
		// It returns when the host has closed the other end, or has ended.
		for _, err := syscall.Read(lifeFile, make([]byte, 1)); err == syscall.EINTR; _, err = syscall.Read(lifeFile, make([]byte, 1)) {
		}
		end.all()
	}()
	for {
		// The lock is taken between waiting for a child and freeing its process id, so that no
		// signal goes to another process that gets the same id.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if err == unix.ECHILD {
			return 0
		}
		var state syscall.WaitStatus
		end.mu.Lock()
		pid, err := syscall.Wait4(-1, &state, syscall.WNOHANG|unix.WALL, nil)
		end.mu.Unlock()
		if err == nil && pid == program {
			report(reportExited, int(state))
			go end.all()
		}
	}
}

// ender kills all descendants of the calling process.
type ender struct {
	mu   sync.Mutex // no child may be waited for while signals are sent
	once sync.Once
}

// maxPause is the longest time between two attempts to kill what could not be killed, as a
// process that waits for a broken disk, or one of another user.
const maxPause = 50 * time.Millisecond

// all kills descendants until the process exits, which it does when none is left. A process
// that has been sent SIGKILL cannot fork any more; what it forked before is found in the
// next round.
func (e *ender) all() {
	e.once.Do(func() {
		known := map[int]bool{}
		for pause := time.Duration(0); ; {
			found := false
			e.mu.Lock()
			Kill(os.Getpid(), func(pid int) {
				found = found || !known[pid]
				known[pid] = true
			})
			e.mu.Unlock()
			if found {
				pause = 0
			} else {
				pause = min(2*pause+100*time.Microsecond, maxPause)
			}
			time.Sleep(pause)
		}
	})
}
