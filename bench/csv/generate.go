package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The columns of the file. A tenth of the names and notes are quoted, and some values
// are missing.
const (
	header  = "id,customer_id,price,quantity,day,at,status,name,rate,note\n"
	columns = `[{"name": "id", "type": "integer"}, {"name": "customer_id", "type": "integer"},
 {"name": "price", "type": "number", "precision": 18, "scale": 2}, {"name": "quantity", "type": "integer"},
 {"name": "day", "type": "date"}, {"name": "at", "type": "datetime"}, {"name": "status", "type": "string"},
 {"name": "name", "type": "string"}, {"name": "rate", "type": "number", "precision": 18, "scale": 4}, {"name": "note", "type": "string"}]`
)

var (
	statuses = []string{"open", "paid", "shipped", "returned", "closed"}
	words    = strings.Fields("the quick brown fox jumps over a lazy dog while seven wizards box grumpy kegs of liquid jade beside old mill ponds")
)

// generate writes the table and its description into dir, with enough rows for a file
// of the given size. Files of the same size have the same content.
func generate(dir string, size int64) error {
	f, err := os.Create(filepath.Join(dir, "sales.csv"))
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	_, err = out.WriteString(header)
	r := rand.New(rand.NewPCG(7, 11))
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	var line []byte
	for id, written := 1, int64(len(header)); written < size && err == nil; id++ {
		at := start.Add(time.Duration(r.IntN(5*365*86400)) * time.Second)
		line = fmt.Appendf(line[:0], "%d,%d,%d.%02d,", id, 1+r.IntN(200_000), r.IntN(2000), r.IntN(100))
		if r.IntN(20) > 0 {
			line = fmt.Appendf(line, "%d", 1+r.IntN(40))
		}
		line = append(line, ',')
		line = at.AppendFormat(line, "2006-01-02,2006-01-02T15:04:05")
		line = fmt.Appendf(line, ",%s,", statuses[r.IntN(len(statuses))])
		line = text(line, r, 2)
		line = fmt.Appendf(line, ",0.%04d,", r.IntN(10000))
		if r.IntN(10) > 0 {
			line = text(line, r, 5+r.IntN(8))
		}
		line = append(line, '\n')
		_, err = out.Write(line)
		written += int64(len(line))
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "datapackage.json"), fmt.Appendf(nil, `{"resources": [{"name": "sales", "path": "sales.csv", "schema": {"fields": %s}}]}`, columns), 0o600)
}

// text appends some words, quoted one time in ten.
func text(line []byte, r *rand.Rand, n int) []byte {
	quoted := r.IntN(10) == 0
	if quoted {
		line = append(line, '"')
	}
	for i := range n {
		if i > 0 {
			line = append(line, ' ')
		}
		line = append(line, words[r.IntN(len(words))]...)
	}
	if quoted {
		line = append(line, `, ""so to say""."`...)
	}
	return line
}
