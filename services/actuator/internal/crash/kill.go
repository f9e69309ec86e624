//go:build crashpoints

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// chosen is read, and taken out of the environment, before anything else is
// done: the settings refuse names with our prefix that they do not know. It
// may end in ":3", for the third time that the point is passed.
var (
	chosen, nth, _ = strings.Cut(take("SELFHEAL_CRASH_AT"), ":")
	signal         = take("SELFHEAL_CRASH_SIGNAL")
	passed         atomic.Int64
)

func take(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name)
	return value
}

// At kills or stops the process, as kill -9 or kill -STOP do, if p is the
// chosen point.
func At(p Point) {
	if string(p) != chosen {
		return
	}
	if n := passed.Add(1); nth != "" && nth != strconv.FormatInt(n, 10) {
		return
	}
	if signal == "STOP" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // not one instruction more until the signal arrives
}
