//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/testkit"
)

// damage starts a plugin and acts as a proxy between it and its host. It sends the
// plugin's handshake with an address of its own, and damages the first connection. The
// arguments are the offset of a byte, "cut" or a value to xor the byte with, and the path
// of the plugin. It returns the exit code, once the plugin has ended.
func damage(args []string) int {
	if len(args) != 3 {
		return 2
	}
	at, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return 2
	}
	what := testkit.Damage{After: at, Cut: args[1] == "cut"}
	if !what.Cut {
		flip, err := strconv.ParseUint(args[1], 10, 8)
		if err != nil {
			return 2
		}
		what.Flip = byte(flip)
	}
	plugin := exec.Command(args[2])
	plugin.Stderr = os.Stderr
	hello, err := plugin.StdoutPipe()
	if err == nil {
		err = plugin.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	in := bufio.NewReader(hello)
	line, err := in.ReadString('\n')
	// core protocol | app protocol | network | address | protocol | ...
	parts := strings.Split(strings.TrimSpace(line), "|")
	if err != nil || len(parts) < 5 {
		fmt.Fprintln(os.Stderr, "the plugin sent no handshake, but:", line)
		return 1
	}
	socket := filepath.Join(filepath.Dir(parts[3]), "damage.sock")
	proxy, err := testkit.NewProxy("unix", socket, parts[2], parts[3], func(connection int) testkit.Damage {
		if connection > 0 {
			return testkit.Damage{}
		}
		return what
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	parts[3] = socket
	fmt.Println(strings.Join(parts, "|"))
	_, _ = io.Copy(os.Stdout, in) // until the plugin ends
	_ = plugin.Wait()             // the host detects how it ended
	_ = proxy.Close()
	return 0
}
