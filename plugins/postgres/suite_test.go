package postgres_test

import (
	"testing"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// collationsSQL creates texts that compare differently in each collation.
const collationsSQL = `CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE collated (id int PRIMARY KEY, plain text, c text COLLATE "C", icu text COLLATE "und-x-icu", blind text COLLATE blind, v varchar(20) COLLATE "und-x-icu", n name, b char(5) COLLATE "und-x-icu");
INSERT INTO collated SELECT i, s, s, s, s, s, s, left(s, 5) FROM (SELECT i, (ARRAY['a','A','b','B','é','e','E','z','Z','_','-a',' a','a ','ä','zz','10','9','', NULL])[1 + i % 19] || (ARRAY['', 'x', 'X'])[1 + i % 3] AS s FROM generate_series(1, 114) i) t;
CREATE TABLE by_blind (k text COLLATE blind PRIMARY KEY, i int); INSERT INTO by_blind SELECT DISTINCT ON (blind) blind, id FROM collated WHERE blind IS NOT NULL;
CREATE TABLE by_bpchar (k char(4) PRIMARY KEY, other char(4) REFERENCES by_bpchar); INSERT INTO by_bpchar SELECT i, (i / 2)::text FROM generate_series(0, 40) i;
CREATE TABLE by_two (a int, b text COLLATE "und-x-icu", u uuid, n numeric(6,2), f float8, t timestamptz, PRIMARY KEY (b, a));
INSERT INTO by_two SELECT i / 3, chr(97 + i % 3), md5(i::text)::uuid, i / 4.0, CASE WHEN i % 9 = 0 THEN float8 'NaN' WHEN i % 7 = 0 THEN NULL ELSE i % 5 END, '2020-01-01'::timestamptz + i % 10 * interval '1 hour' FROM generate_series(1, 90) i;`

// TestTheContract checks the contract for tables with every type, key and collation.
func TestTheContract(t *testing.T) {
	server := pgtest.Start(t)
	for name, c := range map[string]struct {
		scripts []string
		options map[string]string
	}{
		"types":      {scripts: []string{script(t, "types.sql"), hostileSettings}},
		"special":    {scripts: []string{"CREATE SCHEMA c; CREATE TYPE c.pair AS (d date, i int);" + specialSQL}, options: map[string]string{"special": "null", "numeric": "20,3"}},
		"catalog":    {scripts: []string{script(t, "catalog.sql"), `DROP FOREIGN TABLE far; DROP TABLE wide, "Case", "case", "Other.orders", "Other".orders, hidden.secret;`}},
		"collations": {scripts: []string{collationsSQL}},
		"renew":      {scripts: []string{collationsSQL}, options: map[string]string{"snapshot": "renew"}},
		"none":       {scripts: []string{collationsSQL}, options: map[string]string{"snapshot": "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := postgres.Open(t.Context(), sources.Config{URI: server.Database(t, c.scripts...), Options: c.options})
			if err != nil {
				t.Fatal(err)
			}
			if err := testkit.TestSource(t.Context(), src); err != nil {
				t.Error(err)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
