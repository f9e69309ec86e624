package cause

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestWhatNothingSpeaksForIsUnknown(t *testing.T) {
	if diff := cmp.Diff(Find(Facts{}), heal.Cause{Kind: heal.CauseUnknown}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

// crash is a pod of shop/Deployment/<app> that crashes on a node since noon.
func crash(app, pod, node string, metadata map[string]string) heal.Failure {
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: app + "-" + pod, UID: app + pod}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: app, UID: app}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Target: target, Owner: owner, Node: node, Metadata: metadata,
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, owner, "api", "CrashLoopBackOff"),
		EpisodeID:   app + pod, Occurrence: 1, FirstSeen: noon, Timestamp: heal.Unix{Time: noon}, Detector: "crash_loop",
	}
}

func empty(service, selector string, since time.Time) heal.Failure {
	s := heal.Target{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: service, UID: service}
	return heal.Failure{
		Type: heal.ServiceFailure, Reason: "NoReadyEndpoints", Target: s, EpisodeID: service, Occurrence: 1, FirstSeen: since,
		Fingerprint: heal.MakeFingerprint(heal.ServiceFailure, s, heal.Target{}, "", "NoReadyEndpoints"),
		Evidence:    []heal.Evidence{{Path: "spec.selector", Value: selector}},
	}
}

// facts are about the first of failures; all of them are in the group of
// their owner, or on the boards around it.
func facts(failures ...heal.Failure) Facts {
	f := Facts{Failure: failures[0], Now: noon.Add(time.Minute)}
	for _, fail := range failures {
		if incident.GroupKey(fail) == incident.GroupKey(f.Failure) {
			s, _ := f.Group.State(fail, noon, time.Hour).Observe(fail, noon, noon, time.Hour)
			f.Group = f.Group.With(fail, s)
		}
		if fail.Node != "" && fail.Node == f.Failure.Node {
			f.Around.OnNode, _ = f.Around.OnNode.Note(fail, "i", noon)
		}
		f.Around.Namespace, _ = f.Around.Namespace.Note(fail, "i", noon)
		if fail.Metadata["pull_error"] != "" {
			f.Around.Registry, _ = f.Around.Registry.Note(fail, "i", noon)
		}
	}
	return f
}

func rolledOut(hash, revision, newest, available, updated string) map[string]string {
	return map[string]string{
		"pod_template_hash": hash, "revision": revision, "newest_revision": newest,
		"workload_available": available, "workload_updated": updated,
	}
}

func saying(f heal.Failure, text string) heal.Failure {
	f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.containerStatuses[0].lastState.terminated.message", Value: text})
	return f
}

func because(f heal.Failure, reason string) heal.Failure {
	f.Reason = reason
	return f
}

func TestCauses(t *testing.T) {
	newest := func(available, updated string) map[string]string {
		return rolledOut("new", "4", "4", available, updated)
	}
	pull := func(app, why string) heal.Failure {
		return because(crash(app, "a", "n1", map[string]string{"pull_error": why}), "ImagePullBackOff")
	}
	node := incident.Group{}
	n1 := heal.Failure{Type: heal.NodeFailure, Reason: "NodeSuspected", Fingerprint: "node_failure//Node/n1/NodeSuspected", EpisodeID: "n1", Occurrence: 1, FirstSeen: noon}
	s, _ := node.State(n1, noon, time.Hour).Observe(n1, noon, noon, time.Hour)
	accused := facts(crash("web", "a", "n1", nil))
	accused.Around.Node = node.With(n1, s)

	none := heal.Cause{Kind: heal.CauseUnknown}
	tests := []struct {
		name string
		of   Facts
		want heal.Cause
	}{
		{"the newest revision fails, the older ones work", facts(crash("web", "a", "n1", newest("3", "1"))),
			heal.Cause{Kind: heal.CauseRollout, Confidence: 0.95, Evidence: []string{"1 of 1 pods of the newest revision (4) fail, and none of the 3 that are available of older ones"}}},
		{"half of the newest revision fails", facts(crash("web", "a", "n1", newest("4", "2"))),
			heal.Cause{Kind: heal.CauseRollout, Confidence: 0.75, Evidence: []string{"1 of 2 pods of the newest revision (4) fail, and none of the 3 that are available of older ones"}}},
		{"an older revision fails", facts(crash("web", "a", "n1", rolledOut("old", "3", "4", "3", "1"))), none},
		{"older ones fail too", facts(crash("web", "a", "n1", newest("3", "1")), crash("web", "b", "n2", rolledOut("old", "3", "4", "3", "1"))), none},
		{"nothing of before is left to compare with", facts(crash("web", "a", "n1", newest("0", "1"))), none},
		{"all that works is of the newest revision", facts(crash("web", "a", "n1", newest("2", "3"))), none},
		{"the only revision's pods restart, and are available meanwhile", facts(because(crash("web", "a", "n1", newest("2", "2")), "Restarting")), none},
		{"the newest revision's pods restart, older ones work", facts(because(crash("web", "a", "n1", newest("3", "1")), "Restarting")),
			heal.Cause{Kind: heal.CauseRollout, Confidence: 0.95, Evidence: []string{"1 of 1 pods of the newest revision (4) fail, and none of the 2 that are available of older ones"}}},
		{"nobody said which revision is the newest", facts(crash("web", "a", "n1", map[string]string{"pod_template_hash": "new"})), none},
		{"the newest revision finds no room", facts(because(crash("web", "a", "", newest("3", "1")), "Unschedulable")),
			heal.Cause{Kind: heal.CauseCapacity, Confidence: 0.5, Evidence: []string{"no node can take the pod"}}},
		{"the newest revision lacks a Secret", facts(because(crash("web", "a", "n1", with(newest("3", "1"), "missing", "Secret db")), "CreateContainerConfigError")),
			heal.Cause{Kind: heal.CauseRollout, Confidence: 0.95, Evidence: []string{
				"1 of 1 pods of the newest revision (4) fail, and none of the 3 that are available of older ones", "Secret db is missing"}}},

		{"pods of three owners fail on one node", facts(crash("web", "a", "n1", nil), crash("cart", "a", "n1", nil), crash("api", "a", "n1", nil)),
			heal.Cause{Kind: heal.CauseNode, Confidence: 0.7, Evidence: []string{"pods of 3 owners fail on node n1 and on no other: shop/Deployment/api, shop/Deployment/cart, shop/Deployment/web"}}},
		{"pods of two owners do", facts(crash("web", "a", "n1", nil), crash("cart", "a", "n1", nil)), none},
		{"many pods of one owner do", facts(crash("web", "a", "n1", nil), crash("web", "b", "n1", nil), crash("web", "c", "n1", nil)), none},
		{"one of the three fails elsewhere too", facts(crash("web", "a", "n1", nil), crash("cart", "a", "n1", nil), crash("api", "a", "n1", nil), crash("api", "b", "n2", nil)), none},
		{"it fails elsewhere itself", facts(crash("web", "a", "n1", nil), crash("web", "b", "n2", nil), crash("cart", "a", "n1", nil), crash("api", "a", "n1", nil)), none},
		{"the cluster has two nodes", facts(crash("web", "a", "n1", map[string]string{"nodes": "2"}), crash("cart", "a", "n1", nil), crash("api", "a", "n1", nil)), none},
		{"the watcher suspects the node", accused,
			heal.Cause{Kind: heal.CauseNode, Confidence: 0.85, Evidence: []string{"node n1 is suspected: pods of several workloads fail on it, and on no other"}}},

		{"it names a service that is empty", facts(saying(crash("web", "a", "n1", nil), "dial tcp: connect db:5432: refused"), empty("db", "app=db", noon.Add(30*time.Second))),
			heal.Cause{Kind: heal.CauseDependency, Confidence: 0.9, Evidence: []string{"shop/Service/db has no ready endpoints since 2026-11-22T12:00:30Z, and the failure names it"}}},
		{"a name that is a part of another word names nothing", facts(saying(crash("web", "a", "n1", nil), "mongodb-0: timeout"), empty("db", "app=db", noon.Add(30*time.Second))), none},
		{"its own service is empty", facts(saying(crash("web", "a", "n1", nil), "web: crashed"), empty("web", "app=web", noon.Add(-time.Minute))), none},
		{"several failed after a service did", facts(crash("web", "a", "n1", nil), crash("cart", "a", "n2", nil), empty("db", "app=db", noon.Add(-time.Minute))),
			heal.Cause{Kind: heal.CauseDependency, Confidence: 0.6, Evidence: []string{"shop/Service/db has no ready endpoints since 2026-11-22T11:59:00Z, before this failed, as 2 in its namespace did after that"}}},
		{"it failed before the service did", facts(crash("web", "a", "n1", nil), crash("cart", "a", "n2", nil), empty("db", "app=db", noon.Add(time.Second))), none},
		{"it ran out of memory while a service was empty", facts(saying(crash("web", "a", "n1", map[string]string{"last_reason": "OOMKilled"}), "db"), empty("db", "app=db", noon)), none},

		{"a ConfigMap is missing", facts(because(crash("web", "a", "n1", map[string]string{"missing": "ConfigMap web"}), "CreateContainerConfigError")),
			heal.Cause{Kind: heal.CauseConfig, Confidence: 0.94, Evidence: []string{"ConfigMap web is missing"}}},
		{"a program says so itself", facts(saying(crash("web", "a", "n1", nil), `panic: secrets "db-url" not found`)),
			heal.Cause{Kind: heal.CauseConfig, Confidence: 0.8, Evidence: []string{"Secret db-url is missing"}}},

		{"a ConfigMap was just changed", facts(crash("web", "a", "n1", map[string]string{"config_changed": "ConfigMap web at 2026-11-22T11:58:00Z"})),
			heal.Cause{Kind: heal.CauseConfig, Confidence: 0.65, Evidence: []string{"ConfigMap web was changed 2m0s before this began"}}},
		{"a ConfigMap was changed long before", facts(crash("web", "a", "n1", map[string]string{"config_changed": "ConfigMap web at 2026-11-22T11:49:00Z"})), none},
		{"a ConfigMap was changed since, perhaps to mend it", facts(crash("web", "a", "n1", map[string]string{"config_changed": "ConfigMap web at 2026-11-22T12:01:00Z"})), none},
		{"a ConfigMap was changed at nobody knows what time", facts(crash("web", "a", "n1", map[string]string{"config_changed": "ConfigMap web"})), none},

		{"an image that is not there", facts(pull("web", "not_found")),
			heal.Cause{Kind: heal.CauseRegistry, Confidence: 0.7, Evidence: []string{"there is no such image in its registry (not_found)"}}},
		{"an image that we may not have", facts(pull("web", "unauthorized")),
			heal.Cause{Kind: heal.CauseRegistry, Confidence: 0.96, Evidence: []string{"the registry does not let us have the image (unauthorized): its pull secret must be looked at"}}},
		{"a registry that nobody reaches", facts(pull("web", "registry_unreachable"), pull("cart", "registry_unreachable"), pull("api", "registry_unreachable")),
			heal.Cause{Kind: heal.CauseRegistry, Confidence: 0.98, Evidence: []string{"the registry cannot be reached", "so it is for 3 owners at once: an outage, and nothing about this image"}}},

		{"no room", facts(because(crash("web", "a", "", map[string]string{"obstacles": "cpu,taint"}), "Unschedulable")),
			heal.Cause{Kind: heal.CauseCapacity, Confidence: 0.9, Evidence: []string{"no node can take the pod: not enough CPU, taints that it does not tolerate"}}},
		{"a quota", facts(saying(crash("web", "a", "n1", nil), `pods "web-x" is forbidden: exceeded quota: small`)),
			heal.Cause{Kind: heal.CauseCapacity, Confidence: 0.95, Evidence: []string{"a resource quota of the namespace is used up"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(Find(tt.of), tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func with(m map[string]string, key, value string) map[string]string {
	m[key] = value
	return m
}

// TestACauseIsAlwaysOfAKnownKindWithinBounds gives causes anything to read.
func TestACauseIsAlwaysOfAKnownKindWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []heal.Failure
		for i := range rapid.IntRange(1, 8).Draw(t, "failures") {
			md := map[string]string{}
			for _, key := range []string{"revision", "newest_revision", "workload_available", "workload_updated", "pod_template_hash", "pull_error", "missing", "config_changed", "obstacles", "nodes"} {
				if rapid.Bool().Draw(t, key) {
					md[key] = rapid.OneOf(rapid.SampledFrom([]string{"1", "2", "-3", "not_found", "cpu", "\x00\u202e"}), rapid.String()).Draw(t, "value of "+key)
				}
			}
			f := crash(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "app"), fmt.Sprint(i), rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "node"), md)
			all = append(all, saying(f, rapid.String().Draw(t, "text")))
		}
		c := Find(facts(all...))
		if c.Kind == "" || c.Confidence < 0 || c.Confidence > 1 || (c.Confidence > 0) != (len(c.Evidence) > 0) {
			t.Fatalf("%+v", c)
		}
	})
}
