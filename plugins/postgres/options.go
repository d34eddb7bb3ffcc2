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

// moments says what moment of the data a session sees.
type moments string

const (
	// strict is one snapshot for the session. When it is lost, so is the session.
	strict moments = "strict"
	// renew is one snapshot, and another one in its place where it is lost. Scans
	// come in the order of a key, so that they can go on in the other.
	renew moments = "renew"
	// none is a moment for each scan, and nothing that holds vacuum back between
	// them.
	none moments = "none"
)

// options are the settings of a source.
type options struct {
	schema           string   // whose tables go by their bare names
	schemas          []string // the only ones whose tables are shown; nil is all
	application      string
	statementTimeout time.Duration // 0 is none
	lockTimeout      time.Duration // 0 is none
	connections      int
	snapshot         moments
	snapshotLimit    time.Duration // how long a session may hold its snapshot; 0 is for ever
	special          special
	numeric          decimal // of numerics without digits of their own; none is text
	version          string  // how the version of a table is asked for; empty is not at all
}

// special says what becomes of a value that its column's Arrow type cannot hold.
type special string

const (
	refuse   special = "error"
	makeNull special = "null"
	asText   special = "text"
)

// decimal is a declared numeric(precision, scale); the zero value is none.
type decimal struct{ precision, scale int32 }

var optionNames = []string{
	"application_name", "connections", "lock_timeout", "numeric", "schema", "schemas", "snapshot", "snapshot_limit", "special", "statement_timeout", "version",
}

// fromQuery moves those of our options that stand in the query of the URI to the
// others, since the server would not know them.
func fromQuery(c sources.Config) (sources.Config, error) {
	base, query, _ := strings.Cut(c.URI, "?")
	given, err := url.ParseQuery(query)
	if err != nil || !strings.Contains(base, "://") {
		return c, nil // ParseConfig says what a good one looks like
	}
	options := maps.Clone(c.Options)
	for _, key := range optionNames {
		if !given.Has(key) {
			continue
		}
		if _, twice := options[key]; twice || len(given[key]) > 1 {
			return c, fmt.Errorf("option %q: is there twice", key)
		}
		if options == nil {
			options = map[string]string{}
		}
		options[key] = given.Get(key)
		given.Del(key)
	}
	if len(given) > 0 {
		base += "?" + given.Encode()
	}
	return sources.Config{URI: base, Options: options}, nil
}

func parseOptions(given map[string]string) (options, error) {
	o := options{schema: "public", application: "penstock", connections: 8, snapshot: strict, special: refuse}
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
				err = errors.New("want names of schemas with commas between them")
			}
		case "application_name":
			o.application = value
		case "statement_timeout":
			o.statementTimeout, err = parseDuration(value)
		case "lock_timeout":
			o.lockTimeout, err = parseDuration(value)
		case "snapshot_limit":
			o.snapshotLimit, err = parseDuration(value)
		case "connections":
			// One to scan and one to look up what relations lead to.
			if o.connections, err = strconv.Atoi(value); err != nil || o.connections < 2 || o.connections > 1000 {
				err = errors.New("want a number from 2 to 1000")
			}
		case "snapshot":
			if o.snapshot = moments(value); o.snapshot != strict && o.snapshot != renew && o.snapshot != none {
				err = errors.New("want strict, renew or none")
			}
		case "special":
			if o.special = special(value); o.special != refuse && o.special != makeNull && o.special != asText {
				err = errors.New("want error, null or text")
			}
		case "version":
			o.version, err = value, checkVersion(value)
		case "numeric":
			o.numeric, err = parseDecimal(value)
		default:
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
		return 0, errors.New(`want a duration such as "30s", of a millisecond at least, or "0" for none`)
	}
	return d, nil
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
		return decimal{}, errors.New(`want text, or digits and decimal places as in "38,9": 76 digits at most`)
	}
	return decimal{int32(precision), int32(scale)}, nil
}
