// Package telemetry reports what happens in a host as OpenTelemetry metrics and
// traces. An application that does not call [Watch] does not carry OpenTelemetry:
// packages host and core do not import it. The host writes logs itself, to
// [host.Options.Logger].
//
// # Metrics
//
// Names and units are stable. The attribute source is the name that precedes the
// colon in a URI; wall is inproc, process or wasm. Names of streams and tables are
// no attributes, because their number is unbounded.
//
//	penstock.stream.opened      {stream}   counter    source, wall
//	penstock.stream.ended       {stream}   counter    source, wall, status (completed, failed, canceled)
//	penstock.stream.duration    s          histogram  source, wall, status; from opening to end
//	penstock.stream.open        {stream}   gauge      source, wall, status (open, running, degraded, paused)
//	penstock.chunk.count        {chunk}    counter    source, wall
//	penstock.chunk.rows         {row}      histogram  source, wall
//	penstock.row.count          {row}      counter    source, wall
//	penstock.row.size           By         counter    source, wall; bytes of the rows' values
//	penstock.lookup.count       {lookup}   counter    source, wall; added when a stream ends
//	penstock.fault.count        {fault}    counter    source, wall, kind (retried, stalled)
//	penstock.level.changes      {change}   counter    source, wall, level (normal, degraded, paused); the new level of a stream
//	penstock.stream.steered     {action}   counter    source, wall, action (paused, resumed, canceled)
//	penstock.circuit.changes    {change}   counter    source, wall, circuit (closed, half-open, open); the new state of a breaker
//	penstock.circuit.open       {source}   gauge      source, wall; sources whose circuit is open
//	penstock.check.count        {check}    counter    source, wall, good (true, false)
//	penstock.check.duration     s          histogram  source, wall
//	penstock.memory.held        By         gauge      holder; memory of all streams
//	penstock.memory.limit       By         gauge
//	penstock.isolate.count      {process}  gauge      source, wall
//	penstock.isolate.memory     By         gauge      source, wall; private bytes
//	penstock.cache.requests     {request}  counter    result (hit, miss, shared)
//	penstock.cache.evictions    {entry}    counter    cause (ttl, lru, bytes, pressure, version, replaced, invalidated)
//	penstock.cache.entries      {entry}    gauge
//	penstock.cache.size         By         gauge
//
// # Traces
//
// Each stream is a span "penstock.stream" from its opening to its end, a child of the
// span in the context that it was opened with. Attributes: penstock.stream,
// penstock.source, penstock.wall, penstock.table; at its end penstock.rows,
// penstock.chunks, penstock.bytes, penstock.lookups, penstock.retries,
// penstock.peak_bytes, penstock.complete. Its events are retried and stalled (with
// fault, try, wait), level (with from, to, why), paused, resumed and canceled. The
// span of a failed stream has the status error.
package telemetry
