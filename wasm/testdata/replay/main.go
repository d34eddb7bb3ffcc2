// Command replay replies to the n-th request with the bytes of the file /data/n,
// whatever they are, and ends if there is no such file. After the bytes of a file
// n.wait it writes nothing more; after those of n.spin it computes for ever.
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
		then := ""
		for _, ending := range []string{".wait", ".spin"} {
			if err != nil {
				if b, err = os.ReadFile(name + ending); err == nil {
					then = ending
				}
			}
		}
		if err != nil {
			os.Exit(4)
		}
		if _, err := os.Stdout.Write(b); err != nil {
			os.Exit(1)
		}
		switch then {
		case ".wait":
			_, _ = io.Copy(io.Discard, in)
			return
		case ".spin":
			for i := 0; i >= 0; i += 2 {
			}
		}
		n++
	}
}
