package doubt

import (
	"fmt"
	"time"
)

// history is how long the API server keeps changes for those who were away
// (etcd's compaction, five minutes): after that we start cold, whoever was
// here before.
const history = 5 * time.Minute

// settling doubts what is seen just after a cold start: the first sight is the
// one that is most often wrong, and the watchers before us may have had a
// reason to end.
func settling(m *Mind, f Facts) string {
	if f.Before >= 0 && f.Before <= history {
		return ""
	}
	if m.synced < 0 {
		return "this watcher has just begun and has not seen everything yet"
	}
	if since := f.Up - m.synced; since < f.Settle {
		return fmt.Sprintf("this watcher has seen the whole cluster for %s, less than %s", rounded(since), f.Settle)
	}
	return ""
}
