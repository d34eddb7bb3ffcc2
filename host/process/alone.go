package process

import "os/exec"

// alone is a process without a supervisor: the system cannot tell all of its descendants,
// and ends only those in its process group.
type alone struct {
	cmd    *exec.Cmd
	onExit func(reason string, lost bool)
}

func startAlone(cmd *exec.Cmd, onExit func(reason string, lost bool)) (group, error) {
	detach(cmd)
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &alone{cmd, onExit}, nil
}

func (a *alone) pid() int { return a.cmd.Process.Pid }

func (a *alone) root() (pid int, member bool) { return a.cmd.Process.Pid, true }

func (a *alone) wait() error {
	err := a.cmd.Wait()
	a.onExit(describe(a.cmd.ProcessState), false)
	return err
}
