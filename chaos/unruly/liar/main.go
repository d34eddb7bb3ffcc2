// Command liar is a WebAssembly module that violates the protocol between modules and
// their host. The number of its table tells how. The rows of each table are those of
// table t0, which is honest.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// tables is the number of tables: an honest one, and one for each lie of scan.
const (
	tables = 16
	pages  = 6
	rows   = 50 // of a page
)

func main() {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var r struct {
			Op    string
			Query struct{ Table string }
		}
		if line = strings.TrimSpace(line); line == "next" || line == "stop" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			frame('R', `{"error":{"kind":"invalid","message":"what?"}}`)
			continue
		}
		switch r.Op {
		case "open":
			frame('R', `{"version":2}`)
		case "catalog":
			var list []string
			for i := range tables {
				list = append(list, fmt.Sprintf(`{"name":"t%d","key":["n"],"columns":[{"name":"n","type":"int64","required":true}]}`, i))
			}
			frame('R', `{"catalog":{"tables":[`+strings.Join(list, ",")+`]}}`)
		case "plan":
			frame('R', `{"plan":{}}`)
		case "scan":
			lie, err := strconv.Atoi(strings.TrimPrefix(r.Query.Table, "t"))
			if err != nil {
				os.Exit(1)
			}
			scan(in, lie)
		default:
			frame('R', `{}`)
		}
	}
}

// scan sends the pages of a table and the trailer, and tells the lie in the third page or
// at the end.
func scan(in *bufio.Reader, lie int) {
	sent, complete := 0, true
	for page := range pages {
		claimed := rows
		var b strings.Builder
		for i := range rows {
			fmt.Fprintf(&b, "[%d]\n", page*rows+i)
		}
		text := b.String()
		if page == 2 {
			switch lie {
			case 1:
				claimed++ // more rows than there are
			case 2:
				claimed = -1
			case 3:
				text = strings.Replace(text, "[", "[null,", 1)
			case 4:
				text = strings.Replace(text, "[100]", "[null]", 1) // in a column that has none
			case 5:
				text = strings.Replace(text, "[100]", `["a hundred"]`, 1)
			case 6:
				raw('X', 3, "???") // not a kind of frame
			case 7:
				raw('J', 1<<31-1, "[1]\n") // a length beyond the limit
			case 8:
				raw('J', 1<<29, "[1]\n") // a length that never arrives
				continue
			case 9:
				fmt.Println("progress: 40 %") // text among the frames
			case 10:
				frame('R', `{}`) // the reply to nothing
			case 11:
				os.Exit(0)
			}
		}
		frame('J', text)
		frame('P', fmt.Sprintf(`{"page":{"rows":%d}}`, claimed))
		sent += rows
		if line, err := in.ReadString('\n'); err == nil && strings.TrimSpace(line) == "stop" {
			complete = lie == 0
			break
		}
	}
	all := pages
	switch lie {
	case 12:
		sent++
	case 13:
		all--
	case 14:
		complete = false
	case 15:
		frame('T', `{"trailer":{"rows":99999999999999999999,"batches":6,"complete":true}}`)
		return
	}
	frame('T', fmt.Sprintf(`{"trailer":{"rows":%d,"batches":%d,"complete":%t}}`, sent, all, complete))
}

func frame(kind byte, contents string) { raw(kind, len(contents), contents) }

func raw(kind byte, length int, contents string) {
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(length))
	if _, err := os.Stdout.Write(append(head, contents...)); err != nil {
		os.Exit(1)
	}
}
