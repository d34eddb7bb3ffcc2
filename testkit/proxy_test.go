package testkit_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/testkit"
)

// TestProxy checks a connection without damage, one with a changed byte and one that
// is cut, and that no goroutines remain.
func TestProxy(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sent := bytes.Repeat([]byte("abcdefgh"), 20_000)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(sent) // the client finds out
			_ = c.Close()
		}
	}()
	const at = 70_001
	proxy, err := testkit.NewProxy("tcp", "127.0.0.1:0", "tcp", server.Addr().String(), func(connection int) testkit.Damage {
		return []testkit.Damage{{}, {After: at, Flip: 1}, {After: at, Cut: true}}[connection]
	})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sent)
	flipped[at] ^= 1
	for i, want := range [][]byte{sent, flipped, sent[:at]} {
		c, err := net.Dial("tcp", proxy.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil && i < 2 || !bytes.Equal(got, want) {
			t.Errorf("connection %d: %d bytes, want %d; %v", i, len(got), len(want), err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
}
