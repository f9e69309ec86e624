package heal

import (
	"strings"
	"testing"
	"time"
)

func TestASilenceIsForWhatFitsAllThatItSays(t *testing.T) {
	f := typicalFailure()
	f.Metadata = map[string]string{MetadataTeam: "payments", MetadataLabel + "tier": "gold"}
	for _, test := range []struct {
		name string
		m    Match
		want bool
	}{
		{"everything", Match{}, true},
		{"its namespace", Match{Namespaces: []string{"shop"}}, true},
		{"one of several, by a pattern", Match{Namespaces: []string{"bank", "sh*"}}, true},
		{"another namespace", Match{Namespaces: []string{"shops", "hop"}}, false},
		{"the owner", Match{Objects: []string{"Deployment/checkout"}}, true},
		{"the pod", Match{Objects: []string{"Pod/checkout-*"}}, true},
		{"another owner", Match{Objects: []string{"Deployment/cart"}}, false},
		{"team and label", Match{Teams: []string{"payments"}, Labels: map[string]string{"tier": "g*d"}}, true},
		{"a label that it has not", Match{Labels: map[string]string{"zone": "*"}}, false},
		{"severity", Match{Severities: []Severity{High}}, true},
		{"another severity", Match{Severities: []Severity{Low, Critical}}, false},
		{"type and reason", Match{Types: []FailureType{PodFailure}, Reasons: []string{"CrashLoop*"}}, true},
		{"another incident", Match{Incident: "i-2"}, false},
		{"the incident, but another type", Match{Incident: "i-1", Types: []FailureType{NodeFailure}}, false},
	} {
		if got := test.m.Fits("i-1", High, f); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

func TestAPatternTakesNoLongerForManyStars(t *testing.T) {
	if Glob(strings.Repeat("*a", 500)+"b", strings.Repeat("a", 5000)) {
		t.Error("fits")
	}
	for pattern, name := range map[string]string{"": "", "*": "", "a*": "a", "*c": "abc", "a*c*e": "abcde", "**": "x"} {
		if !Glob(pattern, name) {
			t.Errorf("%q does not fit %q", pattern, name)
		}
	}
}

func TestASilenceEndsAndSaysWhyItIs(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	good := Silence{ID: "s-1", Match: Match{Namespaces: []string{"shop"}}, By: "anna", Reason: "move", At: at, Until: at.Add(time.Hour)}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if !good.In(at) || good.In(good.Until) {
		t.Error("it is not in force from its beginning until its end")
	}
	for want, change := range map[string]func(*Silence){
		"reason: is empty": func(s *Silence) { s.Reason = "" },
		"match: is empty":  func(s *Silence) { s.Match = Match{} },
		"at most 720h0m0s": func(s *Silence) { s.Until = at.Add(721 * time.Hour) },
		"want more than 0": func(s *Silence) { s.Until = at },
		"match.severity":   func(s *Silence) { s.Match.Severities = []Severity{"loud"} },
		"match.labels":     func(s *Silence) { s.Match.Labels = map[string]string{"zone": "*"} }, // which no failure tells
	} {
		s := good
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}
