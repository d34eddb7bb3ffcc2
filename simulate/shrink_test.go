package simulate

import (
	"encoding/json"
	"reflect"
)

// shrink returns the smallest world that it finds for which fails still reports true: it
// leaves out readers, faults and events, and sets fields to zero or to half.
func shrink(w world, fails func(world) bool) world {
	for {
		smaller, found := w, false
		for _, candidate := range candidates(w) {
			if fails(candidate) {
				smaller, found = candidate, true
				break
			}
		}
		if !found {
			return w
		}
		w = smaller
	}
}

// candidates returns the worlds that are one step smaller, the smallest first.
func candidates(w world) (all []world) {
	for i := range w.Readers {
		c := w.clone()
		c.Readers = append(c.Readers[:i], c.Readers[i+1:]...)
		c.Events = c.Events[:0]
		for _, e := range w.Events {
			if e.Reader > i {
				e.Reader--
			} else if e.Reader == i {
				continue
			}
			c.Events = append(c.Events, e)
		}
		all = append(all, c)
	}
	for i := range w.Faults {
		c := w.clone()
		c.Faults = append(c.Faults[:i], c.Faults[i+1:]...)
		all = append(all, c)
	}
	for i := range w.Events {
		c := w.clone()
		c.Events = append(c.Events[:i], c.Events[i+1:]...)
		all = append(all, c)
	}
	if w.Source != (ability{}) {
		c := w.clone()
		c.Source = ability{}
		all = append(all, c)
	}
	// The fields of a clone have the order of those of w.
	count := len(fields(reflect.ValueOf(&w).Elem()))
	for i := range count {
		f := fields(reflect.ValueOf(&w).Elem())[i]
		if f.IsZero() {
			continue
		}
		c := w.clone()
		fields(reflect.ValueOf(&c).Elem())[i].SetZero()
		all = append(all, c)
		if f.CanInt() && f.Int() > 1 {
			for _, n := range []int64{f.Int() / 2, f.Int() - 1} {
				c := w.clone()
				fields(reflect.ValueOf(&c).Elem())[i].SetInt(n)
				all = append(all, c)
			}
		}
		if f.CanUint() && f.Type() != reflect.TypeFor[uint8]() { // a set of capabilities
			for bit := f.Uint(); bit != 0; bit &= bit - 1 {
				c := w.clone()
				fields(reflect.ValueOf(&c).Elem())[i].SetUint(f.Uint() &^ (bit & -bit))
				all = append(all, c)
			}
		}
	}
	return all
}

// fields returns all fields that may be set to zero, without the seed, the kinds of
// faults and events, and the readers of events.
func fields(v reflect.Value) (all []reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			switch v.Type().Field(i).Name {
			case "Seed", "What", "Op", "Reader":
				continue
			}
			all = append(all, fields(v.Field(i))...)
		}
	case reflect.Pointer:
		if all = append(all, v); !v.IsNil() {
			all = append(all, fields(v.Elem())...)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return append(all, v)
		}
		for i := range v.Len() {
			all = append(all, fields(v.Index(i))...)
		}
	default:
		all = append(all, v)
	}
	return all
}

func (w world) clone() world {
	c, err := parseWorld(w.String())
	if err != nil {
		panic(err)
	}
	return c
}

func parseWorld(text string) (w world, err error) {
	err = json.Unmarshal([]byte(text), &w)
	return w, err
}
