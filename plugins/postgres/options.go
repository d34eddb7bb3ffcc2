package postgres

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// snapshotMode is the value of the option snapshot.
type snapshotMode string

const (
	// snapshotStrict uses one snapshot for the session, which fails if the snapshot is lost.
	snapshotStrict snapshotMode = "strict"
	// snapshotRenew replaces a lost snapshot by a new one. Scans are in the order of a key, so
	// that they can continue in it.
	snapshotRenew snapshotMode = "renew"
	// snapshotNone uses a snapshot for each scan, and does not hold back VACUUM between scans.
	snapshotNone snapshotMode = "none"
)

// options holds the settings of a source.
type options struct {
	schema           string   // whose tables have unqualified names
	schemas          []string // whose tables are in the catalog; nil means all
	application      string
	statementTimeout *time.Duration // 0 means none, nil that of the server
	lockTimeout      *time.Duration // 0 means none, nil that of the server
	connections      int
	snapshot         snapshotMode
	snapshotLimit    time.Duration // the maximum duration of a snapshot; 0 means unlimited
	special          specialMode
	foreign          []sources.ForeignKey // besides those of the database
	numeric          decimal              // for numerics without a declared precision; the zero value means text
	// numericOf is numeric for single columns, by TABLE.COLUMN with the names of the catalog.
	numericOf map[string]decimal
	version   string // how the version of a table is determined; empty means not at all
}

// specialMode is the value of the option special.
type specialMode string

const (
	specialRefuse specialMode = "error"
	specialNull   specialMode = "null"
	specialText   specialMode = "text"
)

// decimal is a declared numeric(precision, scale); the zero value is none.
type decimal struct{ precision, scale int32 }

var optionNames = []string{
	"application_name", "connections", "lock_timeout", "numeric", "relation", "schema", "schemas", "snapshot", "snapshot_limit", "special", "statement_timeout", "version",
}

// numericPrefix begins the names of options that set numeric for one column.
const numericPrefix = "numeric."

// fromQuery moves options of the source from the parameters of the URI to the options. The
// server would not know them. As in a form, a plus sign in their values is a space. In the
// other parameters it is a plus sign, as in libpq.
func fromQuery(c sources.Config) (sources.Config, error) {
	base, query, _ := strings.Cut(c.URI, "?")
	if !strings.Contains(base, "://") {
		return c, nil
	}
	options, fromURI := maps.Clone(c.Options), map[string]bool{}
	var rest []string
	for pair := range strings.SplitSeq(query, "&") {
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(rawKey)
		if err != nil || !slices.Contains(optionNames, key) && !strings.HasPrefix(key, numericPrefix) {
			if pair != "" {
				rest = append(rest, escapeParameter(pair))
			}
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return c, fmt.Errorf("option %q: the value is not percent-encoded: write %%25 for a percent sign", key)
		}
		if earlier, twice := options[key]; twice {
			if key != "relation" || !fromURI[key] {
				return c, fmt.Errorf("option %q: set twice", key)
			}
			value = earlier + "\n" + value
		}
		if options == nil {
			options = map[string]string{}
		}
		options[key], fromURI[key] = value, true
	}
	if len(rest) > 0 {
		base += "?" + strings.Join(rest, "&")
	}
	return sources.Config{URI: base, Options: options}, nil
}

// escapeParameter returns a parameter of the URI for pgx, which accepts neither spaces nor
// equals signs in a value, so that "options=-c x=y" needs no escapes.
func escapeParameter(pair string) string {
	key, rawValue, found := strings.Cut(pair, "=")
	value, err := url.PathUnescape(rawValue)
	if !found || err != nil {
		return pair // pgx reports what is wrong
	}
	return key + "=" + strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
}

func parseOptions(given map[string]string) (options, error) {
	o := options{schema: "public", application: "penstock", connections: 8, snapshot: snapshotStrict, special: specialRefuse}
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, err := given[key], error(nil)
		switch key {
		case "schema":
			if o.schema = value; value == "" {
				err = errors.New("want the name of a schema")
			}
		case "schemas":
			if o.schemas = strings.Split(value, ","); slices.Contains(o.schemas, "") {
				err = errors.New("want names of schemas separated by commas")
			}
		case "application_name":
			o.application = value
		case "statement_timeout":
			o.statementTimeout, err = parseTimeout(value)
		case "lock_timeout":
			o.lockTimeout, err = parseTimeout(value)
		case "snapshot_limit":
			o.snapshotLimit, err = parseDuration(value)
		case "connections":
			// One for a scan and one for lookups of relations.
			if o.connections, err = strconv.Atoi(value); err != nil || o.connections < 2 || o.connections > 1000 {
				err = errors.New("want a number from 2 to 1000")
			}
		case "snapshot":
			if o.snapshot = snapshotMode(value); o.snapshot != snapshotStrict && o.snapshot != snapshotRenew && o.snapshot != snapshotNone {
				err = errors.New("want strict, renew or none")
			}
		case "special":
			if o.special = specialMode(value); o.special != specialRefuse && o.special != specialNull && o.special != specialText {
				err = errors.New("want error, null or text")
			}
		case "version":
			o.version, err = value, checkVersion(value)
		case "relation":
			o.foreign, err = sources.ParseForeignKeys(value)
		case "numeric":
			o.numeric, err = parseDecimal(value)
		default:
			if column, ok := strings.CutPrefix(key, numericPrefix); ok {
				if o.numericOf == nil {
					o.numericOf = map[string]decimal{}
				}
				o.numericOf[column], err = parseDecimal(value)
				break
			}
			err = errors.New("there is no such option" + sources.Suggest(key, optionNames))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("option %q: %w", key, err))
		}
	}
	return o, errors.Join(faults...)
}

func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > 0 && d < time.Millisecond {
		return 0, errors.New(`want a duration such as "30s", of at least a millisecond, or "0" for none`)
	}
	return d, nil
}

func parseTimeout(value string) (*time.Duration, error) {
	d, err := parseDuration(value)
	return &d, err
}

// parseDecimal reads "PRECISION,SCALE", or "text" for none.
func parseDecimal(value string) (decimal, error) {
	if value == "text" {
		return decimal{}, nil
	}
	p, s, _ := strings.Cut(value, ",")
	precision, err := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
	scale, err2 := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil || err2 != nil || precision < 1 || precision > 76 || scale < 0 || scale > precision {
		return decimal{}, errors.New(`want text, or precision and scale as in "38,9", with at most 76 digits`)
	}
	return decimal{int32(precision), int32(scale)}, nil
}
