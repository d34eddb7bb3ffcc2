// Command replay answers the n-th request with the bytes of the file /data/n,
// whatever they are. It ends where there is no such file; where the file is
// called n.wait it sends the bytes and no more, ever.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	for n := 1; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasPrefix(line, "{") {
			continue
		}
		name := fmt.Sprintf("/data/%d", n)
		b, err := os.ReadFile(name)
		wait := false
		if err != nil {
			if b, err = os.ReadFile(name + ".wait"); err != nil {
				os.Exit(4)
			}
			wait = true
		}
		if _, err := os.Stdout.Write(b); err != nil {
			os.Exit(1)
		}
		if wait {
			_, _ = io.Copy(io.Discard, in)
			return
		}
		n++
	}
}
