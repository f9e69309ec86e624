package config

import (
	"context"
	"time"
)

// watchInterval is between two looks at the files. Kubernetes itself needs up
// to a minute to bring a ConfigMap to the node.
const watchInterval = 2 * time.Second

// Watch calls changed, one call at a time, whenever the files that l reads
// have other contents than at the last call (at first: than when Load gave
// since), with what Load then returns. It returns when ctx is done.
//
// Contents are compared rather than times, and by reading rather than inotify:
// a ConfigMap changes by the swap of a symbolic link, which leaves the names
// that a file watcher was told of untouched.
func Watch(ctx context.Context, l Loader, since *Origins, changed func(Settings, *Origins, error)) {
	told := since.sum
	last := told
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, origins, err := Load(l)
		// Seen twice alike, so that nobody is told of half a change: of the
		// first file of a directory or the first half of a file.
		if origins.sum != told && origins.sum == last {
			told = origins.sum
			changed(s, origins, err)
		}
		last = origins.sum
	}
}
