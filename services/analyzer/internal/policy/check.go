package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/heal"
)

// The bounds within which a policy may loosen a limit. There is no value that
// means no limit.
const (
	minWindow, maxWindow   = time.Minute, 24 * time.Hour
	maxMoreThan            = 1000
	minRest, maxRest       = time.Second, 24 * time.Hour
	maxTries               = 10
	minGiveUp              = time.Minute
	maxActionsPerMinute    = 3000
	minOldest, maxOldest   = time.Minute, time.Hour
	maxName, maxNamespaces = 64, 1000
	maxStorm               = 0.5
	maxBudget              = 1000
	minPer, maxPer         = time.Minute, 7 * 24 * time.Hour
)

// choices are the strategies that fit each type. A policy never crosses kinds:
// no number of failing pods earns a node action.
func choices(t heal.FailureType) []heal.Strategy {
	switch t {
	case heal.NodeFailure:
		return []heal.Strategy{heal.Monitor, heal.Restart, heal.DrainAndReplace, heal.EmergencyReplace}
	case heal.PodFailure:
		return []heal.Strategy{heal.Monitor, heal.Restart, heal.Recreate, heal.ScaleAndReplace}
	case heal.ServiceFailure:
		return []heal.Strategy{heal.Monitor, heal.Restart, heal.Failover, heal.EmergencyFailover}
	case heal.DeploymentFailure:
		return []heal.Strategy{heal.Monitor, heal.Restart, heal.Rollback}
	case heal.ResourceExhaustion:
		return []heal.Strategy{heal.Monitor, heal.Resize, heal.Relieve}
	}
	return nil
}

// Read decodes one YAML document strictly into doc, which is a pointer to a
// struct. What is wrong is named with its line, and what was probably meant.
func Read(data []byte, doc any) error {
	t := reflect.TypeOf(doc).Elem()
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the document is empty")
	}
	// The YAML library would read the first document and pass over the others.
	if separator.Match(bytes.TrimPrefix(bytes.TrimSpace(data), []byte("---"))) {
		return errors.New("more than one YAML document; want one")
	}
	at := linesOf(data)
	if err := at.unknown(t); err != nil {
		return err
	}
	err := yaml.UnmarshalStrict(data, doc)
	if err == nil {
		return nil
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%s: is %s; want %s%s", mismatch.Field, mismatch.Value, kindName(mismatch.Type), at.of(mismatch.Field))
	}
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: while decoding JSON: ", "json: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(heal.Clean(text, 512))
}

var separator = regexp.MustCompile(`(?m)^---(\s|$)`)

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Int:
		return "a whole number"
	}
	return "text"
}

// fields is the name of every field of t and of what t is made of.
func fields(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		return fields(t.Elem())
	case reflect.Struct:
		var names []string
		for name, of := range structFields(t) {
			names = append(append(names, name), fields(of)...)
		}
		slices.Sort(names)
		return names
	}
	return nil
}

// check reports everything that is wrong with the document.
func (d Document) check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	number := func(field string, n, low, high int) {
		if n < low || n > high {
			add("%s: %d is out of bounds; want %d to %d", field, n, low, high)
		}
	}
	duration := func(field string, value Duration, low, high time.Duration) {
		if v := time.Duration(value); v < low || v > high {
			add("%s: %s is out of bounds; want %s to %s", field, v, low, high)
		}
	}

	if d.Name == "" || len(d.Name) > maxName || d.Name != heal.Clean(d.Name, maxName) {
		add("name: %q is not 1 to %d printable characters", heal.Clean(d.Name, maxName), maxName)
	}
	duration("similar.window", d.Similar.Window, minWindow, maxWindow)
	for i, threshold := range d.Similar.Thresholds {
		number(fmt.Sprintf("similar.thresholds[%d].more_than", i), threshold.MoreThan, 0, maxMoreThan)
		errs = append(errs, OneOf(fmt.Sprintf("similar.thresholds[%d].at_least", i), threshold.AtLeast, heal.Severities))
	}
	for _, t := range slices.Sorted(maps.Keys(d.Severity)) {
		errs = append(errs,
			OneOf("severity", t, heal.FailureTypes),
			OneOf("severity."+string(t), d.Severity[t], heal.Severities))
	}
	for _, t := range slices.Sorted(maps.Keys(d.Strategy)) {
		if err := OneOf("strategy", t, heal.FailureTypes); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range slices.Sorted(maps.Keys(d.Strategy[t])) {
			errs = append(errs,
				OneOf("strategy."+string(t), s, heal.Severities),
				OneOf(fmt.Sprintf("strategy.%s.%s", t, s), d.Strategy[t][s], choices(t)))
		}
	}

	g := d.Guards
	if len(g.ProtectedNamespaces) > maxNamespaces {
		add("guards.protected_namespaces: %d are too many; want at most %d", len(g.ProtectedNamespaces), maxNamespaces)
	}
	for i, ns := range g.ProtectedNamespaces {
		if len(ns) > 63 || !namespace.MatchString(ns) {
			add("guards.protected_namespaces[%d]: %q is not the name of a namespace", i, heal.Clean(ns, 64))
		}
	}
	duration("guards.backoff.first", g.Backoff.First, minRest, maxRest)
	duration("guards.backoff.longest", g.Backoff.Longest, max(minRest, time.Duration(g.Backoff.First)), maxRest)
	number("guards.give_up.after", g.GiveUp.After, 1, maxTries)
	duration("guards.give_up.for", g.GiveUp.For, minGiveUp, maxRest)
	number("guards.actions_per_minute", g.ActionsPerMinute, 1, maxActionsPerMinute)
	duration("guards.oldest", g.Oldest, minOldest, maxOldest)
	if s := g.Storm.Share; s < 0 || s > maxStorm {
		add("guards.storm.share: %g is out of bounds; want 0 to %g", s, maxStorm)
	}
	duration("guards.storm.cooldown", g.Storm.Cooldown, 0, maxRest)
	for i, m := range g.Maintenance {
		field := fmt.Sprintf("guards.maintenance[%d]", i)
		if m.Name == "" || len(m.Name) > maxName || m.Name != heal.Clean(m.Name, maxName) {
			add("%s.name: %q is not 1 to %d printable characters", field, heal.Clean(m.Name, maxName), maxName)
		}
		errs = append(errs, m.check(field))
		for j, ns := range m.Namespaces {
			if len(ns) > 63 || !namespace.MatchString(ns) {
				add("%s.namespaces[%d]: %q is not the name of a namespace", field, j, heal.Clean(ns, 64))
			}
		}
	}
	if n := len(d.Rules); n > maxRules {
		add("rules: there are %d; want at most %d", n, maxRules)
	}
	for i, r := range d.Rules {
		errs = append(errs, r.check(fmt.Sprintf("rules[%d]", i)))
	}
	return errors.Join(errs...)
}

var namespace = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// OneOf returns an error that names the field, the value, what was expected
// and what was probably meant, unless v is one of all.
func OneOf[T ~string](field string, v T, all []T) error {
	if slices.Contains(all, v) {
		return nil
	}
	var names []string
	for _, a := range all {
		names = append(names, string(a))
	}
	return fmt.Errorf("%s: %q is not known here; want one of %s%s", field, heal.Clean(string(v), 64), strings.Join(names, ", "), didYouMean(string(v), names))
}

// didYouMean is `; did you mean "severity"?` for the nearest of names, or
// nothing if none is near.
func didYouMean(got string, names []string) string {
	best, least := "", len(got)/3+2
	for _, name := range names {
		if d := distance(got, name); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	if len(a) > 64 { // no name is so long; do not compare a megabyte
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
