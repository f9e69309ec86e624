package contract

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/analyzer"
)

// TestWhatIsDecidedCanBeDoneAndWhatCanBeDoneIsDecided asks the analyzer about
// every failure that it knows, and one that it does not, of every kind of
// object and severity: no decision that acts lacks its action, and no action
// waits for a decision that is never made.
func TestWhatIsDecidedCanBeDoneAndWhatCanBeDoneIsDecided(t *testing.T) {
	t.Parallel()
	known := pairs(t, "../../docs/remedies.md", 1, 2)
	kinds := []string{"Pod", "Node", "Service", "Deployment", "StatefulSet", "DaemonSet", "PersistentVolumeClaim", "Job", "HorizontalPodAutoscaler", "Namespace"}
	type done struct {
		of   heal.FailureType
		s    heal.Strategy
		kind string
	}
	reached := map[done]string{}
	for _, severity := range heal.Severities {
		p, err := analyzer.ParsePolicy([]byte("severity: {pod_failure: " + string(severity) + ", node_failure: " + string(severity) +
			", service_failure: " + string(severity) + ", deployment_failure: " + string(severity) + ", resource_exhaustion: " + string(severity) + "}\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range heal.FailureTypes {
			reasons := []string{"OfSomebodysOwnDetector"}
			for _, pair := range known {
				if name, reason, _ := strings.Cut(pair, "/"); name == string(of) {
					reasons = append(reasons, reason)
				}
			}
			for _, reason := range reasons {
				for _, kind := range kinds {
					for _, d := range twice(p, of, reason, kind) {
						if !d.Acts() {
							continue
						}
						reached[done{d.Type, d.Strategy, d.Target.Kind}] = reason
						if !actuator.Supports(d.Type, d.Strategy, d.Target.Kind) {
							t.Errorf("%s/%s of a %s at severity %s: %s is decided (%s), but cannot be done", of, reason, kind, severity, d.Strategy, d.Reason)
						}
					}
				}
			}
		}
	}
	for _, of := range heal.FailureTypes {
		for _, s := range heal.Strategies {
			for _, kind := range kinds {
				// A roll-back because of failing pods is decided about as their
				// owner's failure; others may ask for it as the pods'.
				other := of == heal.PodFailure && s == heal.Rollback
				if at := (done{of, s, kind}); actuator.Supports(of, s, kind) && reached[at] == "" && !other {
					t.Errorf("%s against %s of a %s can be done, but is never decided", s, of, kind)
				}
			}
		}
	}
	if at := (done{heal.ResourceExhaustion, heal.Resize, "PersistentVolumeClaim"}); reached[at] == "" {
		t.Error("no failure leads to the expansion of a volume")
	}
}

// twice is what is decided about a failure, and about the next of its kind.
func twice(p analyzer.Policy, of heal.FailureType, reason, kind string) []heal.Decision {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := analyzer.NewReplay(analyzer.ReplayConfig{Policy: p})
	var all []heal.Decision
	for i, episode := range []string{"e1", "e2"} {
		at := noon.Add(time.Duration(i) * 20 * time.Minute) // the recovery before is given up
		target := heal.Target{APIVersion: "v1", Kind: kind, Namespace: "shop", Name: "x", UID: "u" + episode}
		if slices.Contains([]string{"Node", "Namespace"}, kind) {
			target.Namespace = ""
		}
		f := heal.Failure{
			Type: of, Reason: reason, Severity: of.BaseSeverity(), ResourceName: "x", Namespace: target.Namespace, Target: target, Detector: "d",
			EpisodeID: episode, Occurrence: 1, FirstSeen: at, Timestamp: heal.Unix{Time: at},
		}
		if kind == "Pod" {
			f.Owner = heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "app", UID: "o"}
		}
		f.Fingerprint = heal.MakeFingerprint(of, target, f.Owner, "", reason)
		if d, made := r.Take(analyzer.Recorded{At: at, Failure: &f}); made {
			all = append(all, d)
		}
	}
	return all
}
