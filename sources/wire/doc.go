// Package wire is what a source and its host say to each other across a wall,
// defined once for every carrier: Arrow Flight between processes, and the
// standard input and output of a WebAssembly command.
//
// # Messages
//
// Control messages are JSON objects: small next to the records, readable in a
// trace, and within reach of a guest that has neither Arrow nor a schema
// compiler. What JSON cannot hold exactly is not left to it: integers of
// literals, decimals and floats are strings ("NaN" and "-0" included), bytes
// that are not UTF-8 are {"base64":"..."}, and keys, which may be many, are one
// Arrow record. The format is append only: a reader passes over fields, kinds
// and operators that it does not know, and [Version] changes where that would be
// wrong.
//
// What is read is bounded before it is taken apart: in length, in nesting, and
// by what really arrived. Memory grows by a small multiple of the input. Every
// decoder refuses what follows its message.
//
// A request is {"op":...}:
//
//	{"op":"open","version":1,"config":{"uri":"/data","options":{"delimiter":";"}}}
//	{"op":"catalog"}
//	{"op":"begin","memory":134217728,"env":{"page":{"bytes":1048576,"rows":65536}}}
//	{"op":"plan","query":{"table":"track"}}
//	{"op":"scan","query":{"table":"track","columns":["id","name"],
//	    "where":{"op":">=","column":"id","value":{"type":"int64","value":"10"}},
//	    "order":[{"column":"id","desc":true}],"limit":5,"after":"BASE64"}}
//	{"op":"end"}
//	{"op":"close"}
//
// A reply has "error" or what was asked for; an empty object says that all is
// well:
//
//	{"version":1}
//	{"catalog":{"tables":[{"name":"track","rows":3503,
//	    "columns":[{"name":"id","type":"int64","required":true},{"name":"name","type":"utf8"}],
//	    "key":["id"],"can":["project","resume"],"filters":{"id":["=","in"]},"scans":1}]}}
//	{"plan":{"rows":3503,"bytes":-1}}
//	{"error":{"op":"scan","table":"track","kind":"not found","message":"..."}}
//
// A table's columns are that list, or "schema": the base64 of an Arrow IPC
// schema message, as penstock's own sources send it. The abilities, operators
// and kinds are those of package sources: project, sort, limit, resume, stable,
// partition, snapshot, logic; =, <>, <, <=, >, >=, in, is null, is not null, has
// prefix, like; internal, invalid, not found, unavailable, exhausted, denied,
// canceled.
//
// Types: null, bool, int8 to int64, uint8 to uint64, float16, float32, float64,
// utf8, large_utf8, binary, large_binary, binary[WIDTH], date32, date64,
// time32[s], time32[ms], time64[us], time64[ns], timestamp[UNIT],
// timestamp[UNIT, ZONE], duration[UNIT], decimal32[DIGITS, SCALE] to decimal256;
// all others as "arrow:" and the base64 of a schema message with one field.
//
// # Standard input and output
//
// A WebAssembly source is a plain WASI command. It reads requests from its
// standard input, one on a line, and writes frames to its standard output, and
// nothing else there; what it writes to standard error goes to the host's log.
// It answers in order, and ends where its input ends. The first request is
// open; begin may be left out.
//
// A frame is one byte for its kind, four bytes for the length of its contents
// (little endian), and the contents:
//
//	R  a reply, to every request but a scan
//	A  records: one or more whole messages of an Arrow IPC stream
//	J  rows: one or more whole lines of JSON
//	P  {"page":{"rows":N,"cursor":"BASE64"}}: what came since the last P is a page
//	T  {"trailer":{"rows":N,"batches":M,"complete":true}}, or "error" and
//	   "complete":false: the scan's last frame
//
// A scan's answer is pages, then a trailer. A successful scan has at least one
// page; an empty result is a page of no rows. The A frames of one scan together
// are one Arrow IPC stream: its schema first, then for each page one record, with
// the dictionaries it needs before it. Bodies are not compressed.
//
// After each page the source reads a line: next, or stop; after stop it sends the
// trailer at once. The host sends a line ahead, so that both work at the same
// time; so after the trailer there can be lines of that scan left, next or
// stop, which the source passes over before the next request. The end of the
// input means next for ever, so that a pipe by hand works:
//
//	printf '%s\n' '{"op":"open","config":{"uri":"/data"}}' '{"op":"scan","query":{"table":"track"}}' |
//	    wasmtime --dir data::/data csv.wasm
//
// The trailer may have a checksum, "sum":"fletcher64:" and 32 hexadecimal
// digits. It is over the contents of the scan's A, J and P frames, one after the
// other as one sequence of bytes, in 64-bit words (little endian, the last one
// filled up with zeros), followed by one word more, the number of those bytes.
// For each word w: a += w, b += a, both modulo 2^64. The digits are b, then a.
//
// # Rows as JSON
//
// A source without an Arrow library sends its rows as lines in J frames. A line
// is an array with a value for each column of the scan, in their order, or an
// object with a member for each column, where one that is missing is NULL:
//
//	[1,"For Those About To Rock",null]
//	{"id":1,"name":"For Those About To Rock"}
//
// Values by the column's type: null; true and false; integers as numbers, or as
// strings of digits; floats as numbers, or as "NaN", "Infinity", "-Infinity";
// decimals as strings, or numbers, of the value itself ("12.50"); text as
// strings; binary as base64 strings; dates as "2006-01-02"; timestamps as RFC
// 3339, without the zone where the column has none; times as "15:04:05.999";
// durations as a number of the column's units; lists as arrays; structs as
// objects. Nothing is rounded: a value that does not fit its column is an error.
package wire
