// Package telemetry turns what happens in a host into OpenTelemetry metrics and
// traces. Nothing of it is there unless an application calls [Watch]: neither
// package host nor package core knows OpenTelemetry. Logs are the host's own
// ([host.Options.Logger]).
//
// # Metrics
//
// Names and units are stable. Attributes: source is the name before the colon of a
// URI, wall is inproc, process or wasm. There is none for a stream's or a table's
// name, of which there is no end.
//
//	penstock.stream.opened      {stream}   counter    source, wall
//	penstock.stream.ended       {stream}   counter    source, wall, status (completed, failed, cancelled)
//	penstock.stream.duration    s          histogram  source, wall, status: from its opening to its end
//	penstock.stream.open        {stream}   gauge      source, wall, status (open, running, degraded, paused)
//	penstock.chunk.count        {chunk}    counter    source, wall
//	penstock.chunk.rows         {row}      histogram  source, wall
//	penstock.row.count          {row}      counter    source, wall
//	penstock.row.size           By         counter    source, wall: of the rows' values
//	penstock.lookup.count       {lookup}   counter    source, wall: when the stream has ended
//	penstock.fault.count        {fault}    counter    source, wall, kind (retried, stalled)
//	penstock.level.changes      {change}   counter    source, wall, level (normal, degraded, paused): that a stream went to
//	penstock.stream.steered     {action}   counter    source, wall, action (paused, resumed, cancelled): by somebody
//	penstock.circuit.changes    {change}   counter    source, wall, circuit (closed, half-open, open): that a breaker went to
//	penstock.circuit.open       {source}   gauge      source, wall: how many sources' circuits are open
//	penstock.check.count        {check}    counter    source, wall, good (true, false)
//	penstock.check.duration     s          histogram  source, wall
//	penstock.memory.held        By         gauge      holder: of all streams
//	penstock.memory.limit       By         gauge
//	penstock.isolate.count      {process}  gauge      source, wall
//	penstock.isolate.memory     By         gauge      source, wall: private bytes
//	penstock.cache.requests     {request}  counter    result (hit, miss, shared)
//	penstock.cache.evictions    {entry}    counter    cause (ttl, lru, bytes, pressure, version, replaced, invalidated)
//	penstock.cache.entries      {entry}    gauge
//	penstock.cache.size         By         gauge
//
// # Traces
//
// Each stream is a span "penstock.stream" from its opening to its end, below the
// span of the context that it was opened with. Attributes: penstock.stream,
// penstock.source, penstock.wall, penstock.table; at the end penstock.rows,
// penstock.chunks, penstock.bytes, penstock.lookups, penstock.retries,
// penstock.peak_bytes, penstock.complete. Its events are retried and stalled (with
// fault, try, wait), level (with from, to, why), paused, resumed and cancelled. One
// that failed has the status error.
package telemetry
