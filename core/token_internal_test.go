package core

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"

	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/sources"
)

// FuzzTokenContent tests that whatever a token with a valid checksum contains, it is an
// error or a resume point that survives a round trip. FuzzToken seldom gets that far.
func FuzzTokenContent(f *testing.F) {
	for _, p := range []resumePoint{
		{snapshots: 1},
		{snapshots: 1, rowsAfter: 3, sum: [16]byte{1}, totalRows: 7, cursor: sources.Cursor("cursor")},
		{snapshots: 2, totalRows: 1, cursor: sources.Cursor{}},
		{snapshots: 3, states: []tableState{{}, {}}},
	} {
		raw, err := base64.RawURLEncoding.DecodeString(string(p.token()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[:len(raw)-4])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		raw := binary.BigEndian.AppendUint32(content[:len(content):len(content)], uint32(xxh3.Hash(content)))
		first, err := parseToken(Token(base64.RawURLEncoding.EncodeToString(raw)))
		if err != nil {
			return
		}
		second, err := parseToken(first.token())
		if err != nil {
			t.Fatalf("%x was parsed, and its own token is an error: %v", content, err)
		}
		if diff := cmp.Diff(first, second, cmp.AllowUnexported(resumePoint{}, binding{}, tableState{}, digest.Digest{})); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
		if first.totalRows < first.rowsAfter || first.rowsAfter < 0 {
			t.Errorf("%d rows after the cursor, %d in all", first.rowsAfter, first.totalRows)
		}
	})
}
