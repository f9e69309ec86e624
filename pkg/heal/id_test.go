package heal

import (
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Ids are what makes a repeated message one message, across versions too:
// these must never change.
func TestIDsAreTheSameInEveryVersion(t *testing.T) {
	f := typicalFailure()
	resolved := f
	resolved.ResolvedAt = noon.Add(time.Hour)
	again := f
	again.Occurrence = 2
	got := map[string]string{
		"bare":         ID("x", "a", "b"),
		"episode":      f.EpisodeID,
		"failure":      f.EventID(),
		"occurrence 2": again.EventID(),
		"resolved":     resolved.EventID(),
		"incident":     f.IncidentID(),
		"decision":     typicalDecision().Head().ID,
		"result":       typicalResult().Head().ID,
		"notification": typicalNotification().Head().ID,
		"approval":     Approval{DecisionID: typicalDecision().ID, Approved: true, By: "anna", At: noon}.Head().ID,
		"control":      Control{Verb: Pause, By: "anna", At: noon}.Head().ID,
		"dead letter":  DeadLetter{Stage: "analyzer", Stream: "SELFHEAL_FAILURES", Sequence: 7}.Head().ID,
	}
	want := map[string]string{
		"bare":         "x-jslgqk1d30dji741ckntp8mc",
		"episode":      "e-r5rkbl1ec8gvd2ivsebef92q",
		"failure":      "f-ti2jip8q1evg1r3dppmc3iu7",
		"occurrence 2": "f-gjoes7eo7ga3o3bo6bh6f7jf",
		"resolved":     "f-of6dklg5pihp4d7r70qp3dd2",
		"incident":     "i-u55kimvpelqgf3hpa4l1ms2d",
		"decision":     "d-hjrb0fam2pu3p57b547nr2r2",
		"result":       "r-93ganurta26kkibrcnko7571",
		"notification": "n-gtjgp7ne2en1sht7oh9ebogc",
		"approval":     "a-364s0b4bvt90o6rf9d6l9p0n",
		"control":      "c-krttl710vlv9qmm8g7bfmj49",
		"dead letter":  "x-8cqpua16p7mclokko1hue8n9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}

func TestPartsOfAnIDCannotRunIntoEachOther(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{
		{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"a", "", "b"}, {"a,1:b"}, {"1:a,1:b,"}, {"b", "a"},
	} {
		id := ID("x", parts...)
		if other, clash := seen[id]; clash {
			t.Errorf("%q and %q have the same id", other, parts)
		}
		seen[id] = parts
	}
}

func TestAnIDCanStandInSubjectsLabelsAndURLs(t *testing.T) {
	form := regexp.MustCompile(`^d-[0-9a-v]{24}$`)
	if id := ID("d", "anything", "\x00 .*>/"); !form.MatchString(id) {
		t.Errorf("%q does not match %s", id, form)
	}
}

func TestATokenReadsBack(t *testing.T) {
	for name, token := range map[string]string{
		"":                      "_",
		"checkout":              "checkout",
		"ip-10-0-3-17.eu-west1": "ip-10-0-3-17_eu-west1",
		"a.b.c":                 "a_b_c",
	} {
		if got := Token(name); got != token {
			t.Errorf("Token(%q) = %q, want %q", name, got, token)
		}
		if got := FromToken(token); got != name {
			t.Errorf("FromToken(%q) = %q, want %q", token, got, name)
		}
	}
	if got := Token("StatefulSet"); got != "statefulset" {
		t.Errorf(`Token("StatefulSet") = %q, want "statefulset"`, got)
	}
}

func TestFailuresAreSimilarByOwnerAndNotByPod(t *testing.T) {
	f := typicalFailure()
	other := f.Target
	other.Name, other.UID = "checkout-7d9f6c-zzzzz", "another"
	for name, test := range map[string]struct{ got, want string }{
		"a pod is its owner's": {
			MakeFingerprint(PodFailure, f.Target, f.Owner, "api", "CrashLoopBackOff"),
			"pod_failure/shop/Deployment/checkout/api/CrashLoopBackOff",
		},
		"so is its replacement": {
			MakeFingerprint(PodFailure, other, f.Owner, "api", "CrashLoopBackOff"),
			"pod_failure/shop/Deployment/checkout/api/CrashLoopBackOff",
		},
		"a bare pod is its own": {
			MakeFingerprint(PodFailure, f.Target, Target{}, "", "Evicted"),
			"pod_failure/shop/Pod/checkout-7d9f6c-x2kpl/Evicted",
		},
		"a node has no namespace": {
			MakeFingerprint(NodeFailure, Target{Kind: "Node", Name: "n.1"}, Target{}, "", "NotReady"),
			"node_failure//Node/n.1/NotReady",
		},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %q, want %q", name, test.got, test.want)
		}
	}
}
