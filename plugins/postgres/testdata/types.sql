-- Every type that PostgreSQL brings along, and the ways to make more of them,
-- each with the values at its edges. The tests read the tables and compare with
-- the text that the server itself makes.
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE EXTENSION IF NOT EXISTS citext;
CREATE SCHEMA odd;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'very, "happy"', '');
CREATE TYPE odd."Odd Type" AS ENUM ('x');
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN dear AS price CHECK (VALUE > 0);
CREATE DOMAIN tags AS text[];
CREATE TYPE point3 AS (x int, "Y" float8, note text);
CREATE TYPE line3 AS (a point3, b point3, moods mood[], at timestamptz, cost numeric(12,3), who citext);
CREATE TYPE holder AS (lines line3[], n int2);
CREATE TYPE mixed AS (i int, net inet);
CREATE DOMAIN place AS point3;

CREATE TABLE plain (
  id int PRIMARY KEY,
  b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8,
  n38 numeric(38,10), n76 numeric(76,30), n5 numeric(5), n_none numeric, n_neg numeric(5,-2), n_over numeric(3,5), n_huge numeric(1000,500),
  t text, v varchar(10), v0 varchar, c char(6), c1 char, ch "char", nm name, ci citext,
  by bytea, d date, ti time, ti3 time(3), tz timetz, ts timestamp, tstz timestamptz, iv interval, iv_ym interval year to month,
  u uuid, js json, jb jsonb, jp jsonpath, x xml, m money,
  net inet, ci4 cidr, ma macaddr, ma8 macaddr8, bi bit(5), vb varbit,
  pt point, ln line, ls lseg, bx box, pa path, po polygon, ci5 circle,
  tv tsvector, tq tsquery, hs hstore,
  o oid, rc regclass, rt regtype, rp regprocedure, xi xid, ti6 tid, ls6 pg_lsn, ov oidvector, iv2 int2vector,
  r4 int4range, rn numrange, rts tstzrange, rd daterange, mr int4multirange,
  md mood, ot odd."Odd Type", pr price, de dear, tg tags, pl place
);
INSERT INTO plain (id) VALUES (0);
INSERT INTO plain VALUES (1,
  true, -32768, -2147483648, -9223372036854775808, 'NaN', '-Infinity',
  -9999999999999999999999999999.9999999999, 9999999999999999999999999999999999999999999999.999999999999999999999999999999, 99999, 1e-40, 12300, 0.00999, 1e400,
  E'tab\t"quote" \\ ''\n é 日本 😀', 'padded    ', '', 'ab', ' ', 'x', 'a name', 'MiXeD',
  '\x00ff', '4713-01-01 BC', '00:00:00', '23:59:59.999', '23:59:59.999999-15:59', '4714-11-24 00:00:00 BC', '0001-12-31 23:59:59.999999 BC', '-178000000 years', '-1 year -2 mons',
  '00112233-4455-6677-8899-aabbccddeeff', '{"a" : 1,  "a": 2}', '{"b": [1.10, null]}', '$."a"[*] ? (@ > 1)', '<a b="c">d</a>', '-92233720368547758.08',
  '10.0.0.1', '10.1.0.0/16', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'',
  '(1.5,-0.1)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1e10,1)]', '((0,0),(1,1),(1,0))', '<(0,0),1e-7>',
  'a:1A fat:2,3', 'fat & (rat | cat:*)', 'a=>1, b=>NULL, "c d"=>"x\"y"',
  4294967295, 'plain', 'int4', 'abs(int4)', '4294967295', '(4294967295,65535)', 'FFFFFFFF/FFFFFFFF', '1 2 3', '-1 2',
  '[1,10)', '(1.5,]', '[2020-01-01 00:00+00,)', 'empty', '{[1,3),[5,6)}',
  'very, "happy"', 'x', 0.05, 99999999.99, '{a,NULL,"b c",""}', '(1,2.5,"note, with comma")');
INSERT INTO plain VALUES (2,
  false, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308,
  0, -1e-30, -0.4, 0.00, 1, -0.00999, -1e-400,
  '', '', 'x', '', 'a', '', '', '',
  '', '5874897-12-31', '12:34:56', '00:00:00.001', '00:00:00+15:59', '294247-01-10 04:00:54.775807', '294247-01-10 04:00:54.775807+00', '-1 mons +2 days -00:00:00.000001', '1 mon',
  'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', '"x"', '1', 'text', 0.01,
  '::1/64', '::/0', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', B'00000', B'1',
  '(NaN,Infinity)', '{0,-1,0}', '[(1,2),(3,4)]', '(2,2),(1,1)', '((0,0),(1,1))', '((0,0))', '<(1,2),3>',
  '', '', '', 0, 0, '-', '-', '0', '(0,0)', '0/0', '', '',
  'empty', '(,)', 'empty', '[2020-01-01,infinity)', '{}',
  '', 'x', -99999999.99, 0.01, '{}', '(,,)');
INSERT INTO plain (id, f4, f8, n38, iv, d, ts, tstz, tz, tg, pl, c, v) VALUES
  (3, 1e-7, 1e15, 0.0000000001, '1 year 2 mons 3 days 04:05:06.7', '1970-01-01', '1970-01-01', '1999-12-31 23:59:59.5+05:30', '12:00+05:45:30', '{"NULL",null}', '(-1,NaN,"")', 'abcdef', 'a'),
  (4, 123456.7, 123456789012345.6, 12345678901234567890.5, '00:00:00', '2000-02-29', '2000-02-29 00:00:00.000001', '2000-01-01', '24:00:00', '{"a\"b","c\\d"}', NULL, '  a', 'b'),
  (5, -1234567, 0.0001, 1, '-23:59:59.999999', '0001-01-01', '0001-01-01', '0001-01-01 BC', '00:00', NULL, '(,1e300,é)', 'é', 'c'),
  (6, '-0', '-0', -1, '1 day -00:00:01', '0001-12-31 BC', '1600-01-01 00:00:00.1', '2262-04-11 23:47:16.854776', '00:00', NULL, NULL, 'x', 'd');

CREATE TABLE nested (
  id int PRIMARY KEY, ab bool[], a2 int2[], a4 int4[], a8 int8[], af float8[], an numeric(10,2)[], an_none numeric[], at text[], ac char(4)[], aby bytea[],
  ad date[], atz timestamptz[], aiv interval[], au uuid[], ajs jsonb[], am mood[], ap price[], ai inet[], ahs hstore[], ar int4range[], aci citext[], axy "char"[], anm name[],
  c point3, cl line3, cc point3[], h holder, hh holder[], mx mixed, amx mixed[], pl place[], row_type plain, tgs tags[]
);
INSERT INTO nested (id) VALUES (0);
INSERT INTO nested VALUES (1,
  '{t,f,NULL}', '{1,-2}', '{2147483647,NULL}', '{}', '{NaN,Infinity,-0,1e-320}', '{1.5,NULL,-99999999.99}', '{1.500,NaN}', '{a,"",NULL,"NULL","x,y","q\"r","b\\s"," z "}', '{a,abcd}', '{"\\x00","\\x"}',
  '{2000-01-01,"0044-03-15 BC"}', '{"2020-02-29 12:00:00+02",NULL}', '{"1 mon","-1 day"}', '{00112233-4455-6677-8899-aabbccddeeff}', '{"{\"a\": \"b\"}",NULL,"1"}', '{ok,"","very, \"happy\""}', '{0.05}', '{10.0.0.1,::1/64,NULL}', '{"a=>1"}', '{"[1,2)",empty}', '{Ab,NULL}', '{a,b}', '{n}',
  '(1,2.5,x)', '("(1,2,a)","(,,)","{ok,NULL}","2020-01-01 00:00:00+00",1.500,Who)', '{"(1,2,\"a b\")",NULL,"(,,\"\")"}',
  '("{""(\\""(1,2,a)\\"",,{},,,)"",NULL}",7)', '{"({},1)",NULL,"(,)"}', '(1,10.0.0.1)', '{"(1,10.0.0.1)"}', '{"(1,2,x)"}', NULL, NULL);
INSERT INTO nested (id, a4, c, cl, at, row_type) VALUES (2, '{0}', '(,,)', '(,,,,,)', '{}', (SELECT p FROM plain p WHERE id = 1)), (3, NULL, NULL, NULL, NULL, (SELECT p FROM plain p WHERE id = 2));
