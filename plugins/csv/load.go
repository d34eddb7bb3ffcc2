package csv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// load makes a table by reading the headers of its files, and as much of them as
// inference needs.
func (s *source) load(ctx context.Context, d tableSpec) (*table, error) {
	t := &table{tableSpec: d, skips: s.options.SkipBad}
	total := int64(0)
	for _, name := range d.fileNames {
		f := tableFile{name: name, nameBytes: []byte(name)}
		if s.stdin != nil {
			f.onePass = s.stdin
		} else {
			info, err := fs.Stat(s.fsys, name)
			if err != nil {
				return nil, err
			}
			if err := checkRegular(name, info); err != nil {
				return nil, err
			}
			f.state, f.size = stateOf(info), info.Size()
		}
		total += min(f.size, s.sampleBytes)
		t.files = append(t.files, f)
		t.identity += name + "\x00" + f.state.contents() + "\x00"
	}
	t.inferred = t.columns == nil
	budget := s.sampleBytes
	if total > tableSampleBytes {
		budget = max(tableSampleBytes/int64(len(t.files)), smallestSampleBytes)
	}
	samples := make([]*fileSample, len(t.files))
	for i := range t.files {
		var err error
		if samples[i], err = s.sampleFile(ctx, t, i, budget); err != nil {
			return nil, err
		}
		if c := samples[i].delimiter; c != 0 && s.choosesDelimiter(t) {
			t.dialect.delimiter = c
		}
		if err := s.addColumns(t, i, samples[i].names); err != nil {
			return nil, err
		}
		t.files[i].start = samples[i].start
		t.packed = t.packed || !samples[i].seekable
	}
	t.width = len(t.columns)
	t.setTypes(samples, s.options.Text)
	for i := range t.files {
		t.mapFields(i, samples[i].names)
	}
	if s.options.FileColumn != "" {
		if _, ok := t.columnIndex()[s.options.FileColumn]; ok {
			return nil, fileError(t.files[0].name, s.options.FileColumn, "the file already has a column %q: choose another name with filename=NAME", s.options.FileColumn)
		}
		t.columns = append(t.columns, column{name: s.options.FileColumn, kind: fileKind, required: true, source: "file name"})
	}
	t.indexes = t.columnIndex()
	t.rows = t.estimate(samples)
	return t, nil
}

// sampleFile reads the header of a table's file and a sample of its records, unless both
// are remembered from an earlier time.
func (s *source) sampleFile(ctx context.Context, t *table, i int, budget int64) (sample *fileSample, err error) {
	f := &t.files[i]
	key, remembers := s.sampleKey(t, f, budget)
	if remembers {
		if sample := remembered.get(key); sample != nil {
			return sample, nil
		}
	}
	input, err := s.openFile(ctx, f, t.dialect)
	if err != nil {
		return nil, err
	}
	defer input.Close()
	mem := &sampleMemory{most: maxHeader}
	in := newScanner(input.reader, f.name, t.dialect, largestBuffer, mem)
	defer in.release()
	in.base = input.from
	if f.onePass != nil {
		in.lines = &lineCounter{}
	}
	defer func() {
		var at *ParseError
		if errors.As(err, &at) {
			s.adviseEncoding(ctx, t, f, in, at)
		}
		w := &recordReader{ctx: ctx, source: s, table: t, file: i, scanner: in}
		switch {
		case at == nil:
		case at.damaged:
			err = w.locateDamage(at, err)
		default:
			err = errors.Join(err, w.locate(at))
		}
	}()
	delimiter, err := s.separator(in, t, i == 0)
	if err != nil {
		return nil, err
	}
	for range t.dialect.skip {
		if err := in.skipLine(); err != nil {
			return nil, err
		}
	}
	names, err := s.header(in, t)
	if err != nil {
		return nil, err
	}
	sample = &fileSample{names: names, delimiter: delimiter, start: in.offset(), seekable: input.seekable}
	columns := t.columns
	if t.inferred {
		columns = s.undeclared(names)
	}
	guess := newRecordGuesser(columns, t.inferDetail, !t.inferred || s.options.Text)
	in.blankIsRecord, in.columns, mem.most = len(columns) == 1, len(columns)+1, maxSampleRecord
	p := &sampler{source: s, file: f, input: input, in: in, guess: guess, budget: budget, sample: sample}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	if sample.guesses = guess.guesses; remembers && sample.records > 0 {
		remembered.put(key, sample)
	}
	return sample, nil
}

// undeclared returns columns with these names, of which nothing else is known.
func (s *source) undeclared(names []string) []column {
	columns := make([]column, len(names))
	words := slices.ContainsFunc(s.options.Null, func(m string) bool { return m != "" })
	for i, name := range names {
		columns[i] = column{name: name, missing: s.options.Null, words: words}
	}
	return columns
}

// setTypes sets the types that are not declared, by the samples of all files.
func (t *table) setTypes(samples []*fileSample, text bool) {
	guesses := make([]typeGuess, len(t.columns))
	at := t.columnIndex()
	basis := ""
	for _, sample := range samples {
		for i, g := range sample.guesses {
			if t.inferred {
				i = at[sample.names[i]]
			}
			guesses[i].merge(g)
		}
		if basis == "" {
			basis = sample.basis
		} else if sample.basis != "" {
			basis = fmt.Sprintf("parts of the %d files", len(samples))
		}
	}
	if basis == "" {
		basis = "all records"
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.words = slices.ContainsFunc(c.missing, func(m string) bool { return m != "" })
		if t.inferred {
			if c.inferred = basis; !text {
				guesses[i].apply(c)
			}
		}
	}
	for _, i := range t.inferDetail {
		t.columns[i].inferred = basis
		guesses[i].applyDeclared(&t.columns[i])
	}
}

// columnIndex returns the indexes of the columns by their names.
func (t *table) columnIndex() map[string]int {
	at := make(map[string]int, len(t.columns))
	for i := range t.columns {
		at[t.columns[i].name] = i
	}
	return at
}

// estimate returns the number of rows if all were read, otherwise an estimate, or -1.
func (t *table) estimate(samples []*fileSample) int64 {
	rows, records, bytes := int64(0), int64(0), int64(0)
	for _, s := range samples {
		records, bytes = records+s.records, bytes+s.bytes
	}
	if records > 0 {
		t.rowBytes = max(1, bytes/records)
	}
	for i, s := range samples {
		switch {
		case s.whole:
			rows += s.records
		case !s.seekable:
			return -1
		default:
			rows += max(s.records, (t.files[i].size-s.start)/max(t.rowBytes, 1))
		}
	}
	return rows
}
