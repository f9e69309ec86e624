package guard

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func home(annotations map[string]string) []Object {
	return []Object{{"Namespace", metav1.ObjectMeta{Name: "self-healing", Annotations: annotations}}}
}

func TestWhatStopsAllActing(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	pause := heal.Control{Verb: heal.Pause, By: "ann", At: now.Add(-time.Hour)}
	over, lasting := pause, pause
	over.Until, lasting.Until, lasting.Reason = now.Add(-time.Second), now.Add(time.Second), "the database moves"
	for _, tt := range []struct {
		name    string
		control heal.Control
		home    []Object
		mode    heal.Mode
		reason  string
		says    string
	}{
		{name: "nothing", mode: heal.ModeAuto},
		{name: "a resume", control: heal.Control{Verb: heal.Resume}, mode: heal.ModeAuto},
		{name: "a pause", control: pause, mode: heal.ModeOff, reason: Paused, says: "paused by ann at 2026-11-22T11:00:00Z"},
		{name: "a pause that lasts", control: lasting, mode: heal.ModeOff, reason: Paused, says: "until 2026-11-22T12:00:01Z: the database moves"},
		{name: "a pause that is over", control: over, mode: heal.ModeAuto},
		{name: "mode off", home: home(map[string]string{heal.AnnotationMode: "off"}), mode: heal.ModeOff, reason: Disarmed, says: "Namespace/self-healing carries"},
		{name: "mode observe", home: home(map[string]string{heal.AnnotationMode: "observe"}), mode: heal.ModeObserve, reason: Disarmed},
		{name: "a mode nobody knows", home: home(map[string]string{heal.AnnotationMode: "Of"}), mode: heal.ModeOff, reason: Disarmed},
		{name: "mode approve", home: home(map[string]string{heal.AnnotationMode: "approve"}), mode: heal.ModeApprove},
		{name: "mode auto", home: home(map[string]string{heal.AnnotationMode: "auto"}), mode: heal.ModeAuto},
		{name: "a hold", home: home(map[string]string{heal.AnnotationHoldUntil: "2026-11-22T13:00:00Z"}), mode: heal.ModeOff, reason: Disarmed, says: "1h0m0s"},
		{name: "a hold that is over", home: home(map[string]string{heal.AnnotationHoldUntil: "2026-11-22T11:00:00Z"}), mode: heal.ModeAuto},
		{name: "a hold nobody can read", home: home(map[string]string{heal.AnnotationHoldUntil: "noon"}), mode: heal.ModeOff, reason: Disarmed},
	} {
		mode, v := JudgeBrake(now, tt.control, tt.home)
		if mode != tt.mode || v.Reason != tt.reason || !strings.Contains(v.Detail, tt.says) {
			t.Errorf("%s: mode %s, %+v; want %s, %q, %q", tt.name, mode, v, tt.mode, tt.reason, tt.says)
		}
	}
}

func TestWhoHasToAgree(t *testing.T) {
	marked := func(f *Facts) { f.Namespace.Annotations = map[string]string{heal.AnnotationMode: "approve"} }
	for _, tt := range []struct {
		name   string
		facts  Facts
		reason string
	}{
		{"nobody", pod(func(f *Facts) { f.Mode = heal.ModeAuto }), ""},
		{"a person, by the mode", pod(func(f *Facts) { f.Mode = heal.ModeApprove }), ApprovalNeeded},
		{"a person, by a mark", pod(func(f *Facts) { f.Mode = heal.ModeAuto }, marked), ApprovalNeeded},
		{"a person who has agreed", pod(func(f *Facts) { f.Mode, f.Approved = heal.ModeApprove, true }, marked), ""},
	} {
		if v := approval.Judge(tt.facts); v.Reason != tt.reason {
			t.Errorf("%s: %+v, want %q", tt.name, v, tt.reason)
		}
	}
}

func TestAnApprovalIsNotOneOfWhatComesAlong(t *testing.T) {
	decided := heal.Target{Kind: "Node", Name: "a", UID: "n1"}
	drained := pod(func(f *Facts) {
		f.Decision.Target, f.Approved = decided, true
		f.Namespace.Annotations = map[string]string{heal.AnnotationMode: "approve"}
	})
	if v := marks.Judge(drained); v.Reason != "MarkedApprove" {
		t.Errorf("a pod of a node that may be drained: %+v", v)
	}
	owned := pod(func(f *Facts) {
		f.Namespace.Annotations = map[string]string{heal.AnnotationMode: "approve"}
		f.Owners = []Owner{{Object: Object{"StatefulSet", metav1.ObjectMeta{Name: "db", UID: "s1"}}}}
		f.Decision.Target, f.Approved = heal.Target{Kind: "StatefulSet", Name: "db", UID: "s1"}, true
	})
	if v := marks.Judge(owned); !v.Allowed() {
		t.Errorf("a pod of a workload that may be changed: %+v", v)
	}
}

func TestTheNodeThatCarriesWhatHealsIsKept(t *testing.T) {
	actuator := func(node string, ready bool) OwnPod { return OwnPod{Part: PartActuator, Node: node, Ready: ready} }
	nats := func(node string, ready bool) OwnPod { return OwnPod{Part: PartNATS, Node: node, Ready: ready} }
	for _, tt := range []struct {
		name    string
		own     []OwnPod
		ownNode string
		refused bool
	}{
		{"nothing of ours is anywhere", nil, "", false},
		{"nothing of ours is there", []OwnPod{actuator("b", true), nats("b", true)}, "b", false},
		{"this actuator is there, and no other", []OwnPod{actuator("a", true)}, "a", true},
		{"this actuator is there, under other labels", nil, "a", true},
		{"this actuator is there, and another is not Ready", []OwnPod{actuator("a", true), actuator("b", false)}, "a", true},
		{"this actuator is there, and another is Ready", []OwnPod{actuator("a", true), actuator("b", true)}, "a", false},
		{"another is there, and this one is elsewhere", []OwnPod{actuator("a", false)}, "b", false},
		{"another is there, and it is not known where this one is", []OwnPod{actuator("a", true)}, "", true},
		{"the only NATS server is there", []OwnPod{nats("a", true)}, "b", true},
		{"one of three NATS servers is there", []OwnPod{nats("a", false), nats("b", true), nats("c", true)}, "b", false},
		{"one of three NATS servers is there, and another is down", []OwnPod{nats("a", true), nats("b", true), nats("c", false)}, "b", true},
		{"a watcher is there", []OwnPod{{Part: "watcher", Node: "a"}}, "b", false},
	} {
		f := node(func(f *Facts) { f.Own, f.OwnNode = tt.own, tt.ownNode })
		if v := ownNode.Judge(f); v.Allowed() == tt.refused {
			t.Errorf("%s: %+v, want refused %v", tt.name, v, tt.refused)
		}
	}
	if v := ownNode.Judge(pod()); !v.Allowed() {
		t.Errorf("a pod: %+v", v)
	}
}

func TestAPodThatHasFailedAsAWholeIsSick(t *testing.T) {
	sick, seen := SickPod(&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}})
	if !sick || !strings.Contains(seen, "Evicted") {
		t.Errorf("sick %v: %s", sick, seen)
	}
}
