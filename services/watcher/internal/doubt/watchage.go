package doubt

import (
	"fmt"
	"time"
)

// maxUnseen is how old our sight of a kind may be.
const maxUnseen = time.Minute

// watchAge doubts what is seen when the watch of a kind that must be seen is
// older than that. What a watcher before us saw counts as ours: a restart goes
// on where it ended.
func watchAge(m *Mind, f Facts) string {
	worst := Kind{Unseen: maxUnseen}
	for _, k := range f.Kinds {
		if k.Optional {
			continue
		}
		if !k.Synced {
			k.Unseen = max(k.Unseen, f.Up) + max(f.Before, 0)
		}
		if k.Unseen > worst.Unseen {
			worst = k
		}
	}
	switch {
	case worst.Resource == "", !worst.Synced && m.settles(f): // settling says it already
		return ""
	case worst.Err != "":
		return fmt.Sprintf("no watch of %s for %s: %s", worst.Resource, rounded(worst.Unseen), worst.Err)
	}
	return fmt.Sprintf("no watch of %s for %s", worst.Resource, rounded(worst.Unseen))
}

// settles reports whether settling has its doubts.
func (m *Mind) settles(f Facts) bool { return settling(m, f) != "" }
