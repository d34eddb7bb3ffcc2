//go:build linux

package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// watch detects a run that hangs, however busy the machine is. A run hangs if none of its
// counters moves while its processes use less than a second of processor time in all, for
// as long as the limit; or if they use many times the limit without a counter moving.
//
// The limit is not compared with the time of day, but with a clock that counts equal
// steps of work, and so goes slower when the machine is busy.
type watch struct {
	progress atomic.Int64 // counted up by whatever shows that the run goes on
	hung     chan string  // receives a description for each limit without progress
	stop     chan struct{}
	done     chan struct{}
}

const (
	watchStep  = 100 * time.Millisecond
	watchSteps = 10          // between two looks at the processes
	busyCPU    = time.Second // of processor time, shows that the run goes on
	spinFactor = 6           // limits of processor time without progress are a hang too
)

// newWatch starts a watch. The caller ends it.
func newWatch(limit time.Duration) *watch {
	w := &watch{hung: make(chan string, 16), stop: make(chan struct{}), done: make(chan struct{})}
	go w.run(limit)
	return w
}

// end ends the watch.
func (w *watch) end() {
	close(w.stop)
	<-w.done
}

func (w *watch) run(limit time.Duration) {
	defer close(w.done)
	runtime.LockOSThread() // so that the watch can tell its own processor time
	defer runtime.UnlockOSThread()
	var idle time.Duration // by the clock of this watch, since the run did anything
	seen, used := w.progress.Load(), cpuOfRun()
	usedAtProgress := used
	for step := 1; ; step++ {
		select {
		case <-w.stop:
			return
		case <-time.After(watchStep):
		}
		idle += time.Duration(float64(watchStep) * speed())
		if step%watchSteps != 0 {
			continue
		}
		now, cpu := w.progress.Load(), cpuOfRun()
		switch {
		case now != seen:
			seen, used, usedAtProgress, idle = now, cpu, cpu, 0
		case cpu-usedAtProgress > spinFactor*limit:
			w.report("it has used %s of processor time without progress", cpu-usedAtProgress)
			usedAtProgress = cpu
		case cpu-used > busyCPU:
			used, idle = cpu, 0
		case idle > limit:
			w.report("no counter has moved for %s, and its processes were idle", idle)
			idle = 0
		}
	}
}

func (w *watch) report(format string, d time.Duration) {
	select {
	case w.hung <- fmt.Sprintf(format, d.Round(time.Millisecond)):
	default:
	}
}

// workTime is how long work takes when nothing else runs: the least of many tries.
var workTime = sync.OnceValue(func() time.Duration {
	least := time.Duration(1 << 62)
	for range 20 {
		least = min(least, work())
	}
	return least
})

var sink atomic.Uint64

// work computes something for about a millisecond, and returns how long it took.
func work() time.Duration {
	begun := time.Now()
	x := uint64(begun.UnixNano())
	for range 400_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink.Store(x)
	return time.Since(begun)
}

// speed returns the speed of the machine now, from 0 to 1: 1 if nothing else runs.
func speed() float64 { return min(1, float64(workTime())/float64(max(work(), 1))) }

// cpuOfRun returns the processor time of this process and all below it, without that of
// the calling thread and of PostgreSQL.
func cpuOfRun() time.Duration {
	var sum time.Duration
	all := processes()
	for _, p := range below(all) {
		sum += p.cpu
	}
	var own syscall.Rusage
	const thread = 1 // RUSAGE_THREAD
	if err := syscall.Getrusage(thread, &own); err == nil {
		sum -= time.Duration(own.Utime.Nano() + own.Stime.Nano())
	}
	return sum + all[self].cpu
}

// eventually calls check until it returns nil, and returns its last error if that takes
// longer than the given time on a machine that does nothing else.
func eventually(within time.Duration, check func() error) error {
	const wait = 10 * time.Millisecond
	for waited := time.Duration(0); ; {
		err := check()
		if err == nil || waited > within {
			return err
		}
		time.Sleep(wait)
		waited += time.Duration(float64(wait) * speed())
	}
}
