package postgres_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// pgText returns a value of a column as psql writes it with ISO dates and UTC, or nil for
// NULL. It is independent of the code under test.
func pgText(t *testing.T, a arrow.Array, i int) *string {
	t.Helper()
	if a.IsNull(i) {
		return nil
	}
	s := ""
	switch a := a.(type) {
	case *array.Boolean:
		if s = "f"; a.Value(i) {
			s = "t"
		}
	case *array.Int16:
		s = fmt.Sprint(a.Value(i))
	case *array.Int32:
		s = fmt.Sprint(a.Value(i))
	case *array.Int64:
		s = fmt.Sprint(a.Value(i))
	case *array.Float32:
		s = pgFloat(float64(a.Value(i)), 32)
	case *array.Float64:
		s = pgFloat(a.Value(i), 64)
	case *array.Decimal128:
		s = a.Value(i).ToString(a.DataType().(arrow.DecimalType).GetScale())
	case *array.Decimal256:
		s = a.Value(i).ToString(a.DataType().(arrow.DecimalType).GetScale())
	case *array.String:
		s = a.Value(i)
	case *array.Binary:
		s = `\x` + hex.EncodeToString(a.Value(i))
	case *array.FixedSizeBinary:
		u := hex.EncodeToString(a.Value(i))
		s = u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
	case *array.Date32:
		s = pgTime(time.Unix(int64(a.Value(i))*86400, 0).UTC(), "01-02", "")
	case *array.Time64:
		s = time.UnixMicro(int64(a.Value(i))).UTC().Format("15:04:05.999999")
	case *array.Timestamp:
		zone := ""
		if a.DataType().(*arrow.TimestampType).TimeZone != "" {
			zone = "+00"
		}
		s = pgTime(time.UnixMicro(int64(a.Value(i))).UTC(), "01-02 15:04:05.999999", zone)
	case *array.MonthDayNanoInterval:
		s = pgInterval(a.Value(i))
	case *array.Dictionary:
		return pgText(t, a.Dictionary(), a.GetValueIndex(i))
	case *array.List:
		from, to := a.ValueOffsets(i)
		var parts []string
		for j := from; j < to; j++ {
			v := pgText(t, a.ListValues(), int(j))
			if v == nil {
				parts = append(parts, "NULL")
			} else if *v == "" || strings.EqualFold(*v, "null") || strings.ContainsAny(*v, "{}\",\\ \t\n\v\f\r") {
				parts = append(parts, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(*v)+`"`)
			} else {
				parts = append(parts, *v)
			}
		}
		s = "{" + strings.Join(parts, ",") + "}"
	case *array.Struct:
		var parts []string
		for j := range a.NumField() {
			v := pgText(t, a.Field(j), i)
			if v == nil {
				parts = append(parts, "")
			} else if *v == "" || strings.ContainsAny(*v, "()\",\\ \t\n\v\f\r") {
				parts = append(parts, `"`+strings.NewReplacer(`\`, `\\`, `"`, `""`).Replace(*v)+`"`)
			} else {
				parts = append(parts, *v)
			}
		}
		s = "(" + strings.Join(parts, ",") + ")"
	default:
		t.Fatalf("a column of type %s", a.DataType())
	}
	return &s
}

// pgFloat returns the shortest text for a number, with an exponent where PostgreSQL has
// one.
func pgFloat(f float64, bits int) string {
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case math.IsNaN(f):
		return "NaN"
	}
	s := strconv.FormatFloat(f, 'e', -1, bits)
	_, exponent, _ := strings.Cut(s, "e")
	most := 15
	if bits == 32 {
		most = 6
	}
	if n, _ := strconv.Atoi(exponent); f != 0 && (n < -4 || n >= most) {
		return s
	}
	return strconv.FormatFloat(f, 'f', -1, bits)
}

// pgTime formats a time, with years before 1 as BC.
func pgTime(v time.Time, rest, zone string) string {
	year, era := v.Year(), ""
	if year <= 0 {
		year, era = 1-year, " BC"
	}
	return fmt.Sprintf("%04d-", year) + v.Format(rest) + zone + era
}

func pgInterval(v arrow.MonthDayNanoInterval) string {
	var b strings.Builder
	before := false
	add := func(n int64, unit string) {
		if n == 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if before && n > 0 {
			b.WriteByte('+')
		}
		fmt.Fprintf(&b, "%d %s", n, unit)
		if n != 1 {
			b.WriteByte('s')
		}
		before = n < 0
	}
	add(int64(v.Months/12), "year")
	add(int64(v.Months%12), "mon")
	add(int64(v.Days), "day")
	if v.Nanoseconds == 0 && b.Len() > 0 {
		return b.String()
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	micros := v.Nanoseconds / 1000
	if micros < 0 {
		b.WriteByte('-')
		micros = -micros
	} else if before {
		b.WriteByte('+')
	}
	fmt.Fprintf(&b, "%02d:%02d:%02d", micros/3600e6, micros/60e6%60, micros/1e6%60)
	if rest := micros % 1e6; rest > 0 {
		b.WriteString("." + strings.TrimRight(fmt.Sprintf("%06d", rest), "0"))
	}
	return b.String()
}
