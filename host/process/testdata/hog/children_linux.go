package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childVariable tells a copy of this program what to do: the kind of child, the rate and
// until, separated by spaces.
const childVariable = "HOG_CHILD"

// startChild starts a process of a kind and returns when it is as the kind says. The options
// childrate and childuntil are for the kinds that allocate memory.
func startChild(kind string, options map[string]string) error {
	switch kind {
	case "execs":
		// A process of another program, again and again. Until it runs that program it has
		// the memory of this one.
		for range 500 {
			if err := exec.Command("true").Run(); err != nil {
				return err
			}
		}
		return nil
	case "fork":
		// A process that shares all pages with this one.
		if fork() == 0 {
			for {
				syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		return nil
	case "stopper":
		// A child that could get away, and this process stops its parent again and again.
		if err := startChild("setsid", options); err != nil {
			return err
		}
		go func() {
			for range time.Tick(time.Millisecond) {
				_ = syscall.Kill(os.Getppid(), syscall.SIGSTOP)
			}
		}()
		return nil
	}
	return run(kind, options["childrate"], options["childuntil"])
}

// run starts a copy of this program, and returns when that or what it starts says that it
// runs.
func run(kind, rate, until string) error {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), strings.Join([]string{childVariable + "=" + kind, rate, until}, " "))
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: kind == "setsid" || kind == "orphan"}
	c.Stderr = os.Stderr
	ready, said, err := os.Pipe()
	if err != nil {
		return err
	}
	c.Stdout = said
	if err := c.Start(); err != nil {
		return err
	}
	_ = said.Close()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("the child: %w", err)
	}
	return nil
}

// actAsChild does what childVariable says, if it is set.
func actAsChild() {
	order, ok := os.LookupEnv(childVariable)
	if !ok {
		return
	}
	parts := strings.Split(order, " ")
	switch parts[0] {
	case "orphan": // starts a child, which loses its parent
		if err := run("setsid", parts[1], parts[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		os.Exit(0)
	case "crowd": // four generations of three children each, and none waits for its own
		fmt.Println("ready")
		fork3(4)
	case "runner": // a process that starts another one and ends, again and again
		fmt.Println("ready")
		runtime.LockOSThread()
		for {
			if fork() != 0 {
				syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
			}
			syscall.RawSyscall6(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0)
		}
	}
	fmt.Println("ready")
	if rate, err := strconv.ParseFloat(parts[1], 64); err == nil {
		until, err := strconv.ParseFloat(parts[2], 64)
		if err != nil {
			until = 1e15
		}
		if err := hog(rate, until); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	for {
		time.Sleep(time.Hour)
	}
}

// fork3 starts three processes in sessions of their own, each of which starts three more,
// and does not return.
func fork3(generations int) {
	for left := 3; generations > 0 && left > 0; left-- {
		if fork() == 0 {
			syscall.RawSyscall6(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0)
			generations, left = generations-1, 4
		}
	}
	for {
		syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// fork makes a copy of the calling thread's process. The copy has only that thread, so it
// makes only system calls.
func fork() uintptr {
	pid, _, _ := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	return pid
}
