package cause

import (
	"regexp"

	"github.com/selfheal/selfheal/pkg/heal"
)

// config is the cause when a ConfigMap, a Secret or a key of one is missing:
// it is named.
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
	return heal.Cause{}
}

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
