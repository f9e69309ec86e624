package cause

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// sooner is how much later than its dependent a service may be seen to be
// empty, and still have come first: that is held until it is sure.
const sooner = 2 * time.Minute

// dependency is the cause when a service in the same namespace lost its
// endpoints, and the failure names it, or began after that. A service whose
// pods are those that fail is not what they wait for.
func dependency(f Facts) heal.Cause {
	fail := f.Failure
	if fail.Type != heal.PodFailure || !waits(fail) {
		return heal.Cause{}
	}
	text, going := words(fail), f.Around.Namespace.Going(f.Now)
	var best heal.Cause
	for _, e := range going {
		if e.Type != heal.ServiceFailure || own(fail, e) {
			continue
		}
		name := e.Object[strings.LastIndexByte(e.Object, '/')+1:]
		since := time.UnixMilli(e.First).UTC()
		c := heal.Cause{Kind: heal.CauseDependency}
		switch first := e.First <= fail.FirstSeen.Add(sooner).UnixMilli(); {
		case mentions(text, name):
			c.Confidence = 0.9
			c.Evidence = []string{fmt.Sprintf("%s has no ready endpoints since %s, and the failure names it", heal.Clean(e.Object, 200), since.Format(time.RFC3339))}
		case first && e.First <= fail.FirstSeen.UnixMilli():
			n := dependents(going, e)
			c.Confidence = rounded(0.5 + 0.05*float64(min(n, 6)))
			c.Evidence = []string{fmt.Sprintf("%s has no ready endpoints since %s, before this failed, as %d in its namespace did after that",
				heal.Clean(e.Object, 200), since.Format(time.RFC3339), n)}
		default:
			continue
		}
		if c.Confidence > best.Confidence {
			best = c
		}
	}
	return best
}

// Dependency is the service that c says is waited for; empty if none is.
func Dependency(c heal.Cause) string {
	if c.Kind != heal.CauseDependency || len(c.Evidence) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(c.Evidence[0], " ")
	return name
}

// waits reports whether a failure can be one of waiting for something.
func waits(f heal.Failure) bool {
	switch f.Reason {
	case "CrashLoopBackOff", "Restarting", "InitContainerFailing", "ContainersNotReady", "LivenessProbeFailed":
		return f.Metadata["last_reason"] != "OOMKilled"
	}
	return false
}

// own reports whether the service is one of the failing pods' own: then it is
// empty because they fail.
func own(f heal.Failure, service incident.Entry) bool {
	owner := f.Affected()
	if slices.Contains(service.Selectors, owner.Name) || service.Object == (heal.Target{Kind: "Service", Namespace: owner.Namespace, Name: owner.Name}).String() {
		return true
	}
	return slices.Contains(service.Workloads, owner.Kind+"/"+owner.Name)
}

// mentions reports whether the text names the service, as a host of its own or
// before a port or a domain, and not as a part of another word.
func mentions(text, name string) bool {
	name = strings.ToLower(name)
	for from := 0; name != ""; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		start := from + i
		end := start + len(name)
		if (start == 0 || !partOfName(text[start-1])) && (end == len(text) || !partOfName(text[end])) {
			return true
		}
		from = end
	}
	return false
}

func partOfName(c byte) bool {
	return c == '-' || c == '_' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// dependents counts the owners whose pods began to fail after the service did.
func dependents(going []incident.Entry, service incident.Entry) int {
	seen := map[string]bool{}
	for _, e := range going {
		if e.Type == heal.PodFailure && e.First >= service.First && !slices.Contains(service.Selectors, e.Object[strings.LastIndexByte(e.Object, '/')+1:]) {
			seen[e.Object] = true
		}
	}
	return len(seen)
}
