package cause

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// config is the cause when a ConfigMap, a Secret or a key of one is missing, or
// was changed just before the failure began: it is named.
func config(f Facts) heal.Cause {
	fail := f.Failure
	if fail.Type != heal.PodFailure && fail.Type != heal.DeploymentFailure {
		return heal.Cause{}
	}
	if missing := fail.Metadata["missing"]; missing != "" {
		return heal.Cause{Kind: heal.CauseConfig, Confidence: 0.94, Evidence: []string{heal.Clean(missing, 300) + " is missing"}}
	}
	for _, text := range texts(fail) {
		if m := missingObject.FindStringSubmatch(text); m != nil {
			return heal.Cause{Kind: heal.CauseConfig, Confidence: 0.8, Evidence: []string{kinds[m[1][0]|0x20] + " " + m[2] + " is missing"}}
		}
	}
	// As "ConfigMap web at 2026-11-22T12:00:00Z"; nobody changes one every few minutes.
	what, when, _ := strings.Cut(fail.Metadata[heal.MetadataConfigChanged], " at ")
	at, err := time.Parse(time.RFC3339, when)
	if before := fail.FirstSeen.Sub(at); err == nil && before >= 0 && before < justChanged {
		return heal.Cause{Kind: heal.CauseConfig, Confidence: 0.65, Evidence: []string{
			fmt.Sprintf("%s was changed %s before this began", heal.Clean(what, 300), before.Truncate(time.Second))}}
	}
	return heal.Cause{}
}

// justChanged is how long after a change of its configuration a failure may
// begin and be put down to that: the kubelet takes a minute or two to hand it
// on, and a program a few more to come to it.
const justChanged = 10 * time.Minute

var (
	// As the kubelet, the API server and most programs that ask it put it.
	missingObject = regexp.MustCompile(`(?i)\b(configmaps?|secrets?) "([a-z0-9][a-z0-9.-]{0,252})" not found`)
	kinds         = map[byte]string{'c': "ConfigMap", 's': "Secret"}
)

// texts are the failure's words, one by one.
func texts(f heal.Failure) []string {
	all := []string{f.Description}
	for _, e := range f.Evidence {
		all = append(all, e.Value)
	}
	return all
}
