// Command rows is a source without an Arrow library or any other: it replies in JSON
// and sends rows as lines of JSON.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

const catalog = `{"catalog":{"tables":[{"name":"people","rows":5,"key":["id"],"columns":[
	{"name":"id","type":"int64","required":true},
	{"name":"name","type":"utf8"},
	{"name":"born","type":"date32"},
	{"name":"seen","type":"timestamp[us, UTC]"},
	{"name":"owes","type":"decimal128[12, 2]"},
	{"name":"photo","type":"binary"}]},
	{"name":"nobody","columns":[{"name":"id","type":"int64"}]}]}}`

var people = []string{
	`[1,"Ada","1815-12-10","2024-02-29T12:00:00.000001+02:00","12.50","AAH/"]`,
	`{"id":9223372036854775807,"name":"Grace \"Amazing\" Hopper\n","owes":-0.1}`,
	`[-9223372036854775808,null,null,null,null,null]`,
	`{"id":4,"name":""}`,
	`[5,"Zoë","0001-01-01","1969-12-31T23:59:59.999999Z","9999999999.99",""]`,
}

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
			frame('R', catalog)
		case "plan":
			frame('R', `{"plan":{}}`)
		case "scan":
			scan(in, r.Query.Table)
		default:
			frame('R', `{}`)
		}
	}
}

// scan sends pages of two rows.
func scan(in *bufio.Reader, table string) {
	rows := people
	if table == "nobody" {
		rows = nil
	}
	sent, pages := 0, 0
	for first := true; first || len(rows) > 0; first = false {
		n := min(2, len(rows))
		frame('J', strings.Join(rows[:n], "\n")+"\n")
		frame('P', fmt.Sprintf(`{"page":{"rows":%d}}`, n))
		rows, sent, pages = rows[n:], sent+n, pages+1
		if line, err := in.ReadString('\n'); err == nil && strings.TrimSpace(line) == "stop" {
			break
		}
	}
	frame('T', fmt.Sprintf(`{"trailer":{"rows":%d,"batches":%d,"complete":true}}`, sent, pages))
}

func frame(kind byte, contents string) {
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(contents)))
	if _, err := os.Stdout.Write(append(head, contents...)); err != nil {
		os.Exit(1)
	}
}
