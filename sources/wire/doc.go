// Package wire defines the protocol between a host and an isolated source. It is
// used over two carriers: Arrow Flight between processes, and the standard input and
// output of a WebAssembly command.
//
// # Messages
//
// Control messages are JSON objects. They are small compared with the records, are
// readable in a trace, and need neither Arrow nor a schema compiler. Values that
// JSON does not represent exactly have other forms: the integers, decimals and
// floats of literals are strings, including "NaN" and "-0"; bytes that are not UTF-8
// are {"base64":"..."}; and keys, of which there may be many, are one Arrow record.
// The format is append-only: a reader ignores unknown fields, kinds and operators.
// [Version] changes if ignoring them would be wrong. Version 2 added the meaning of
// columns (metadata of the fields), ordinals of keys, aliases and unusable relations,
// and due pages.
//
// Decoders check the length and the nesting of a message before they parse it, and
// never trust a length for which the bytes have not arrived. They use memory in
// proportion to the input, and reject data after the message.
//
// A message has at most 64 MiB, 262,144 objects and 4,194,304 commas outside of texts; a
// reply has at most 16 MiB, except for that to "catalog". A text has at most 1 MiB, and a
// name, a version, a snapshot and a part at most 64 KiB. Comments, details and the
// messages of errors are cut to 64 KiB.
//
// A request is {"op":...}:
//
//	{"op":"open","version":2,"config":{"uri":"/data","options":{"delimiter":";"}}}
//	{"op":"catalog"}
//	{"op":"catalog","tables":["track"]}
//	{"op":"begin","memory":134217728,"env":{"page":{"bytes":1048576,"rows":65536},"flush_ms":100}}
//	{"op":"plan","query":{"table":"track"}}
//	{"op":"scan","query":{"table":"track","columns":["id","name"],
//	    "where":{"op":">=","column":"id","value":{"type":"int64","value":"10"}},
//	    "order":[{"column":"id","desc":true}],"limit":5,"after":"BASE64"}}
//	{"op":"end"}
//	{"op":"close"}
//
// A reply has "error" or the requested object. An empty object means success:
//
//	{"version":2}
//	{"catalog":{"tables":[{"name":"track","rows":3503,
//	    "columns":[{"name":"id","type":"int64","required":true},{"name":"name","type":"utf8"}],
//	    "key":["id"],"can":["project","resume"],"filters":{"id":["=","in"]},"scans":1}]}}
//	{"plan":{"rows":3503,"bytes":-1}}
//	{"error":{"op":"scan","table":"track","kind":"not found","message":"..."}}
//
// A table has either "columns", as above, or "schema": an Arrow IPC schema message
// in base64, which sources written in Go send. The capabilities, operators and error
// kinds are those of package sources: project, sort, limit, resume, stable,
// partition, snapshot, logic; =, <>, <, <=, >, >=, in, is null, is not null, has
// prefix, like; internal, invalid, not found, unavailable, exhausted, denied,
// canceled.
//
// Types: null, bool, int8 to int64, uint8 to uint64, float16, float32, float64,
// utf8, large_utf8, binary, large_binary, binary[WIDTH], date32, date64, number,
// time32[s], time32[ms], time64[us], time64[ns], timestamp[UNIT],
// timestamp[UNIT, ZONE], duration[UNIT], decimal32[DIGITS, SCALE] to decimal256. All
// others are "arrow:" and a schema message with one field in base64. The type number
// is utf8 that holds exact decimal numbers of any size; see package sources. An extension
// type of Arrow is its storage type, with the usual keys in the metadata of the field.
//
// # Standard input and output
//
// A WebAssembly source is a WASI command. It reads requests, one per line, from its
// standard input, and writes only frames to its standard output. Its standard error
// goes to the host's log. It answers requests in order and exits at the end of its
// input. The first request is open; begin may be omitted.
//
// A frame consists of one byte for its kind, four bytes for the length of its
// contents (little endian), and the contents:
//
//	R  the reply to any request except scan
//	A  records: one or more complete messages of an Arrow IPC stream
//	J  rows: one or more complete lines of JSON
//	P  {"page":{"rows":N,"cursor":"BASE64"}}: everything since the last P is a page;
//	   with "due":true, it was handed on before it was full
//	T  {"trailer":{"rows":N,"batches":M,"complete":true}}, or "error" and
//	   "complete":false: the last frame of a scan
//
// The answer to scan is a sequence of pages and a trailer. A successful scan has at
// least one page; an empty result is one page without rows. The A frames of a scan
// form one Arrow IPC stream: the schema, then one record for each page, preceded by
// the dictionaries it needs. Bodies are not compressed.
//
// After each page the source reads a line, "next" or "stop". After "stop" it sends
// the trailer at once. The host sends each line one page ahead, so that both sides
// work concurrently. Therefore lines of a finished scan may follow its trailer; the
// source ignores them before the next request. The end of the input counts as
// "next", so that a shell pipe works:
//
//	printf '%s\n' '{"op":"open","config":{"uri":"/data"}}' '{"op":"scan","query":{"table":"track"}}' |
//	    wasmtime --dir data::/data csv.wasm
//
// The trailer may have a checksum: "sum":"fletcher64:" followed by 32 hexadecimal
// digits. It covers the concatenated contents of the scan's A, J and P frames, as
// 64-bit words (little endian, the last one padded with zeros), followed by one more
// word, the number of bytes. For each word w: a += w, b += a, both modulo 2^64. The
// digits are b, then a.
//
// # Rows as JSON
//
// A source without an Arrow library sends its rows as lines in J frames. A line is
// an array with a value for each column of the scan in order, or an object with a
// member for each column, where a missing member is NULL:
//
//	[1,"For Those About To Rock",null]
//	{"id":1,"name":"For Those About To Rock"}
//
// The form of a value depends on the type of its column: null; true and false;
// integers as numbers or strings of digits; floats as numbers, "NaN", "Infinity" or
// "-Infinity"; decimals and numbers as strings or numbers ("12.50"); text as strings; binary as
// base64 strings; dates as "2006-01-02"; timestamps as in RFC 3339, without an offset
// if the column has no time zone; times as "15:04:05.999"; durations as a number in
// the column's unit; lists as arrays; structs as objects. Values are never rounded: a
// value that does not fit its column is an error.
package wire
