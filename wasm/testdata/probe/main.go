// Command probe tests what a module can access. It replies to each request with an
// error that reports the result of the action which the open request's URI names. It
// is small, because tests load it often.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var r struct{ Config struct{ URI string } }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			continue
		}
		kind, err := "internal", probe(r.Config.URI)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			kind = "not found"
		case errors.Is(err, fs.ErrPermission):
			kind = "denied"
		}
		b, err := json.Marshal(map[string]any{"version": 2, "error": map[string]any{"kind": kind, "message": fmt.Sprint(err)}})
		if err != nil {
			os.Exit(1)
		}
		head := binary.LittleEndian.AppendUint32([]byte{'R'}, uint32(len(b)))
		if _, err := os.Stdout.Write(append(head, b...)); err != nil {
			os.Exit(1)
		}
	}
}

func probe(uri string) error {
	what, arg, _ := strings.Cut(uri, ":")
	switch what {
	case "read":
		b, err := os.ReadFile(arg)
		if err != nil {
			return err
		}
		return errors.New("it says " + string(b))
	case "write":
		return os.WriteFile(arg, []byte("x"), 0o644)
	case "list":
		entries, err := os.ReadDir(arg)
		return errors.Join(fmt.Errorf("%d entries", len(entries)), err)
	case "look":
		var b [16]byte
		_, err := rand.Read(b[:])
		return errors.Join(fmt.Errorf("random %x year %d args %q environment %q", b, time.Now().Year(), os.Args, os.Environ()), err)
	case "time":
		begun := time.Now()
		for range 10_000 {
			time.Since(begun)
		}
		return fmt.Errorf("passed: %s", time.Since(begun))
	}
	return fmt.Errorf("%q is nothing to try", uri)
}
