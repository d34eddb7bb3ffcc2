package csv

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzIndexFile checks that any file is refused or has all the entries that it claims, also if
// every page has the right checksum.
func FuzzIndexFile(f *testing.F) {
	key := indexKey{1, 2, 3}
	for _, n := range []int64{0, 1, pageEntries, pageEntries + 1} {
		w, err := newIndexFile(f.TempDir(), key, n == 1)
		if err != nil {
			f.Fatal(err)
		}
		for i := range n {
			w.add(indexEntry{uint64(i), i})
		}
		name := filepath.Join(f.TempDir(), "index")
		x, err := w.finish(name)
		if err != nil {
			f.Fatal(err)
		}
		contents, err := os.ReadFile(name)
		if err := errors.Join(err, x.close()); err != nil {
			f.Fatal(err)
		}
		f.Add(contents, false, n)
		f.Add(contents[:pageContents], true, n) // only the beginning of the first page
	}
	name := filepath.Join(f.TempDir(), "index")
	f.Fuzz(func(t *testing.T, contents []byte, sealed bool, entries int64) {
		if sealed {
			var all []byte
			for number := int64(0); len(contents) > 0; number++ {
				var page indexPage
				n := copy(page[:pageContents], contents)
				if number == 0 {
					binary.LittleEndian.PutUint64(page[entriesAt:], uint64(entries))
				}
				page.seal(key.seed(), number)
				all, contents = append(all, page[:]...), contents[n:]
			}
			contents = all
		}
		if err := os.WriteFile(name, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := openIndex(name, key)
		if err != nil {
			if !errors.Is(err, errBadIndex) {
				t.Errorf("%v is not a damaged index", err)
			}
			return
		}
		defer x.close()
		if sealed && x.entries != entries {
			t.Errorf("%d entries, want %d", x.entries, entries)
		}
		for _, i := range []int64{0, x.entries / 2, x.entries - 1} {
			if i < 0 || i >= x.entries {
				continue
			}
			if _, err := x.entry(i); err != nil && (sealed || !errors.Is(err, errBadIndex)) {
				t.Errorf("entry %d of %d: %v", i, x.entries, err)
			}
		}
	})
}
