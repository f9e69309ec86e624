//go:build crashpoints

package crash

import (
	"os"
	"syscall"
)

// chosen is read, and taken out of the environment, before anything else is
// done: the settings refuse names with our prefix that they do not know.
var chosen, signal = take("SELFHEAL_CRASH_AT"), take("SELFHEAL_CRASH_SIGNAL")

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
	if signal == "STOP" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // not one instruction more until the signal arrives
}
