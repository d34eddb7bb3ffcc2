package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// TestLongTexts tests that a text for people is cut at both ends, that any other is refused
// before it is decoded, and that a message of too many values is refused.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	catalog := sources.Catalog{Tables: []sources.Table{{Name: "t", Comment: long, Schema: arrow.NewSchema(nil, nil), Relations: []sources.Relation{{Name: "r", Kind: sources.HasOne, Unusable: long}}}}}
	b, err := wire.MarshalReply(wire.Reply{Catalog: &catalog})
	if err != nil || len(b) > 3*sources.MaxComment {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	reply, err := wire.UnmarshalReply(wire.OpCatalog, b)
	if err != nil || len(reply.Catalog.Tables[0].Comment) != sources.MaxComment || len(reply.Catalog.Tables[0].Relations[0].Unusable) != sources.MaxComment {
		t.Errorf("%v", err)
	}
	for name, text := range map[string]string{
		"detail": `{"plan":{"detail":"` + long + `"}}`, "comment": `{"catalog":{"tables":[{"name":"t","columns":[],"comment":"` + long + `"}]}}`,
		"unusable": `{"catalog":{"tables":[{"name":"t","columns":[],"relations":[{"name":"r","kind":"has_one","unusable":"` + long + `"}]}]}}`,
	} {
		if reply, err := wire.UnmarshalReply("", []byte(text)); err != nil || len(fmt.Sprintf("%+v%+v", reply.Plan, reply.Catalog)) > 2*sources.MaxComment {
			t.Errorf("%s: %.100v", name, err)
		}
	}
	for name, text := range map[string]string{
		"identity": `{"catalog":{"tables":[],"identity":"` + long + `"}}`, "snapshot": `{"plan":{"snapshot":"` + long + `"}}`,
		"objects": `{"catalog":{"tables":[{}` + strings.Repeat(",{}", 256<<10) + `]}}`,
		"values":  `{"plan":{"parts":[""` + strings.Repeat(`,""`, 4<<20+1) + `]}}`,
	} {
		if _, err := wire.UnmarshalReply("", []byte(text)); sources.KindOf(err) != sources.Invalid || err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	e := wire.MarshalError(sources.Errorf(sources.Denied, long, long, "%s", long))
	if got, ok := wire.UnmarshalError(e); !ok || len(e) > 4*sources.MaxComment || got.Kind != sources.Denied {
		t.Errorf("an error of %d bytes", len(e))
	}
	long = `{"kind":"denied","message":"` + long + `"}`
	if got, ok := wire.UnmarshalError([]byte(long)); !ok || len(got.Err.Error()) != sources.MaxComment {
		t.Errorf("a message of %d bytes", len(got.Err.Error()))
	}
	meta := wire.MarshalMeta(wire.Meta{Page: &wire.Page{Skipped: sources.Skipped{Records: 1, Locations: []string{strings.Repeat("x", 1<<20)}}}})
	if m, err := wire.UnmarshalMeta(meta); err != nil || len(m.Page.Skipped.Locations[0]) != sources.MaxLocation {
		t.Errorf("%d bytes, %v", len(meta), err)
	}
}

// TestLongNamesAreNotSent tests that a source with a name that is too long says so itself.
func TestLongNamesAreNotSent(t *testing.T) {
	c := sources.Catalog{Tables: []sources.Table{{Name: strings.Repeat("x", sources.MaxName+1), Schema: arrow.NewSchema(nil, nil)}}}
	_, err := wire.MarshalReply(wire.Reply{Catalog: &c})
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(fmt.Sprint(err), "catalog cannot be sent: the name of the table has 65537 bytes, but the limit is 65536") {
		t.Errorf("%.500v", err)
	}
}
