package simulate

import (
	"strings"
	"testing"
)

// known are worlds that have shown a fault, or that show one if the engine is broken in
// the way that the name says.
var known = []struct{ name, world string }{
	{"a retry repeats a page", `{"Seed":228,"Rows":1,"Source":{"PageRows":1},"Readers":[{}],"Faults":[{"Op":"scan","Page":2,"What":"lost"}]}`},
	{"a retry loses a page", `{"Seed":31,"Rows":1,"Source":{"PageRows":1},"Readers":[{}],"Faults":[{"Op":"scan","Page":1,"What":"eof"}]}`},
	{"a retry asks for the whole limit again", `{"Seed":622,"Rows":2,"Source":{"PageRows":1},"Readers":[{"Limit":2,"Load":"labels(limit: 2),group","ChunkRows":1}],"Faults":[{"Op":"scan","Nth":1,"What":"disorder"}]}`},
	{"a retry does not compare the rows that it reads again", `{"Seed":1,"Rows":1,"Source":{"Without":8,"PageRows":1},"Readers":[{}],"Faults":[{"Op":"scan","Page":1,"What":"disorder"}]}`},
	{"a retry reads a table again that has no order", `{"Seed":112,"Rows":0,"Source":{"Without":24},"Readers":[{}],"Faults":[{"Op":"scan","Page":1,"What":"unavailable"}]}`},
	{"a new session sees another snapshot", `{"Seed":122,"Rows":0,"Source":{},"Readers":[{"Load":"group","ChunkRows":1}],"Faults":[{"Op":"scan","Nth":1,"What":"disorder"}],"Events":[{"What":"change"}]}`},
	{"a scan that stalls never ends", `{"Seed":185,"Rows":0,"Source":{},"Readers":[{}],"Faults":[{"Op":"scan","What":"stall"}]}`},
	{"a page that was read ahead is kept", `{"Seed":48,"Rows":2,"Source":{},"Readers":[{"Load":"group,tags(order: [word:desc])","Memory":3726,"ChunkRows":1,"FlushAfter":5,"ReadAhead":true,"Tokens":true,"MaxWait":-1,"Slow":30}]}`},
	{"pages of partitions are kept", `{"Seed":8,"Rows":1,"Source":{},"Readers":[{"ChunkRows":1,"Parallel":2,"Leave":1}]}`},
	{"the last page of a partition is lost", `{"Seed":20,"Rows":1,"Source":{},"Readers":[{"Parallel":2}]}`},
	{"a stored result that breaks off is taken as whole", `{"Seed":2034,"Rows":4,"Source":{"PageRows":1},"Cache":{"TTL":1,"Store":true,"Forgetful":true},"Readers":[{"At":1,"Table":"groups","Below":8,"Order":"-n,id"},{"Table":"groups","Below":8,"Order":"-n,id","Mode":1}]}`},
	{"a cached result of an old version is used", `{"Seed":162,"Rows":0,"Source":{},"Cache":{},"Readers":[{},{"At":1,"Order":"-n,id","Limit":40},{"Order":"-n,id","Limit":40}],"Events":[{"What":"change"}]}`},
	{"a cached result is used beyond its time", `{"Seed":32,"Rows":0,"Source":{"Silent":true},"Cache":{"TTL":1},"Readers":[{"At":1,"Table":"groups","Below":3,"Order":"id"},{"Table":"groups","Below":3,"Tokens":true}],"Events":[{"What":"change"}]}`},
	{"a cached related row of an old version is used", `{"Seed":838,"Rows":0,"Source":{},"Cache":{},"Readers":[{"Optional":"tags"},{"At":1,"Optional":"tags"}],"Events":[{"What":"change"}]}`},
	{"partitions in order come as another stream got them", `{"Seed":13038,"Rows":1,"Source":{},"Together":true,"Memory":49152,"Cache":{"TTL":200,"MaxBytes":65536},"Readers":[{"At":13,"ChunkRows":4,"FlushAfter":1,"Parallel":2,"MaxWait":-1,"Hold":1,"Leave":2},{"Memory":16384,"ChunkRows":17,"FlushAfter":5,"Parallel":2,"Unordered":true,"Mode":1,"StallLimit":50,"MaxWait":-1}]}`},
	{"a digest leaves out rows of the token", `{"Seed":8,"Rows":2,"Source":{},"Readers":[{"ChunkRows":1,"Tokens":true,"Leave":2,"Restarts":2}]}`},
	{"a limit leaves out the rows before the token", `{"Seed":339,"Rows":4,"Wide":297,"Source":{},"Readers":[{"Table":"groups","Order":"-n,id","Limit":2,"Memory":3968,"Tokens":true,"NoPushdown":true,"Restarts":1}]}`},
	{"a related row of a repeated key is missing", `{"Seed":169,"Rows":6,"Source":{},"Readers":[{"Load":"group.items","ChunkRows":1}]}`},
	{"the last part of a look-up is missing", `{"Seed":58,"Rows":2,"Source":{"MaxKeys":2},"Readers":[{"Load":"labels"}]}`},
	{"a session for look-ups stays open", `{"Seed":30,"Rows":0,"Source":{"MaxScans":1},"Readers":[{"Load":"group,tags(order: [word:desc])"}]}`},
	{"a pause never ends", `{"Seed":3,"Rows":0,"Source":{"Slow":2},"Readers":[{}],"Events":[{"At":3,"What":"pause","For":3}]}`},
	{"a stream that is canceled stays paused", `{"Seed":29,"Rows":0,"Source":{"Slow":3},"Readers":[{"Timeout":11}],"Events":[{"At":6,"What":"pause","For":1172}]}`},
	{"an error's text changes", `{"Seed":1458,"Rows":1,"Source":{"Slow":19},"Together":true,"Breaker":1,"Readers":[{},{"Table":"groups","Parallel":2}],"Faults":[{"Op":"catalog","What":"unavailable"}]}`},
	{"a follower fails because a session cannot be closed", `{"Seed":4331,"Rows":0,"Source":{},"Host":true,"Cache":{},"Readers":[{"Below":3,"Limit":5,"Memory":65536,"ChunkRows":100,"MaxWait":100,"Restarts":3},{"Below":3,"Limit":5,"ChunkRows":1,"FlushAfter":-1,"Lazy":true,"MaxWait":-1,"Hold":3,"Restarts":2}],"Faults":[{"Op":"close","What":"eof"}]}`},
	{"a timeout does not cover the opening", `{"Seed":116,"Rows":0,"Source":{},"Readers":[{"Timeout":50}],"Faults":[{"Op":"catalog","What":"stall"}]}`},
	{"a session joins a snapshot of which nothing was read", `{"Seed":78029,"Rows":1,"Source":{},"Readers":[{"Table":"groups","Load":"items.tags"}],"Faults":[{"Op":"scan","What":"lost"},{"Op":"scan","Nth":3,"Page":1,"What":"lost"}],"Events":[{"What":"change"}]}`},
}

// TestKnownWorlds runs the known worlds, which a change of [newWorld] does not change.
func TestKnownWorlds(t *testing.T) {
	for _, k := range known {
		t.Run(k.name, func(t *testing.T) {
			w, err := parseWorld(k.world)
			if err != nil {
				t.Fatal(err)
			}
			if faults, notes := watched(t, w, true); len(faults) > 0 {
				t.Errorf("%s\n\n%s", strings.Join(faults, "\n"), strings.Join(notes, "\n"))
			}
		})
	}
}
