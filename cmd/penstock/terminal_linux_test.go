package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// openTerminal returns both ends of a new terminal: what a program writes to the second
// one is read from the first.
func openTerminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this system has no terminals: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	var unlock, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, program
}

// TestTerminal tests that rows cannot control a terminal, whatever their format, while a
// program that reads them from a pipe gets them as they are.
func TestTerminal(t *testing.T) {
	for _, format := range []string{"", "table", "csv", "ndjson", "arrow"} {
		t.Run(format, func(t *testing.T) {
			screen, program := openTerminal(t)
			shown := make(chan string)
			go func() {
				var all strings.Builder
				buf := make([]byte, 4096)
				for {
					n, err := screen.Read(buf)
					all.Write(buf[:n])
					if err != nil { // EIO, once the other end is closed
						shown <- all.String()
						return
					}
				}
			}()
			args := []string{"read", "rude:x", "rows", "--isolation", "inproc"}
			if format != "" {
				args = append(args, "--format", format)
			}
			t.Setenv("NO_COLOR", "1")
			var stderr strings.Builder
			if code := run(t.Context(), args, nil, program, &stderr); code != exitSuccess {
				t.Errorf("exit code %d: %s", code, &stderr)
			}
			if err := program.Close(); err != nil {
				t.Error(err)
			}
			text := strings.ReplaceAll(<-shown, "\r\n", "\n") // the terminal's own line ends
			if !strings.Contains(text, "owned") {
				t.Errorf("the terminal shows %q", text)
			}
			if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x9b || r == 0x202e }); i >= 0 {
				t.Errorf("%q has %q", text, text[i:min(i+10, len(text))])
			}
		})
	}
}
