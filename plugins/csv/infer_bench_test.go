package csv

import (
	"bytes"
	"fmt"
	"testing"
	"testing/fstest"
)

// BenchmarkInfer infers the types of a file of 64 MiB.
func BenchmarkInfer(b *testing.B) {
	for name, line := range map[string]func(i int) string{
		"mixed": func(i int) string {
			return fmt.Sprintf("%d,%d,%d.%02d,2024-%02d-%02d,\"customer %d\",true,text %d,%d\n", i, i%977*1234567, i%1000, i%100, i%12+1, i%28+1, i, i, i%7)
		},
		"numbers": func(i int) string {
			return fmt.Sprintf("%d,%d.%d,%d,%d,%d.%03d,%d\n", i, i%100, i%10, i*7, i%13, i%997, i%1000, i%100000)
		},
		"times": func(i int) string {
			return fmt.Sprintf("%d,2024-%02d-%02dT%02d:%02d:%02dZ,2024-01-01 00:00:%02d\n", i, i%12+1, i%28+1, i%24, i%60, i%60, i%60)
		},
	} {
		var data bytes.Buffer
		first := line(0)
		for i := range bytes.Count([]byte(first), []byte{','}) + 1 {
			if i > 0 {
				data.WriteByte(',')
			}
			fmt.Fprintf(&data, "c%d", i)
		}
		data.WriteByte('\n')
		for i := 0; data.Len() < sampleBytes-200; i++ {
			data.WriteString(line(i))
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(data.Len()))
			for b.Loop() {
				source, err := New(fstest.MapFS{"t.csv": {Data: data.Bytes()}}, Options{})
				if err != nil {
					b.Fatal(err)
				}
				catalog, err := source.Catalog(b.Context())
				if err != nil || catalog.Tables[0].Rows < 1000 {
					b.Fatal(catalog, err)
				}
			}
		})
	}
}
