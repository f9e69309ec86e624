package heal

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestADecisionReadsBackAsItWasWritten(t *testing.T) {
	want := NewEvent(typicalDecision(), "default", "analyzer", noon)
	want.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	got, err := Decode[Decision](marshal(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	r := Result{Decision: Decision{Failure: typicalFailure()}, Verification: &Verification{}}
	r.Decision.Failure.Evidence = nil
	for _, data := range [][]byte{
		marshal(t, NewEvent(r, "default", "actuator", noon)),
		marshal(t, NewEvent(Notification{Result: r}, "default", "notifier", noon)),
		marshal(t, NewEvent(DeadLetter{Headers: map[string][]string{"Nats-Msg-Id": nil}}, "default", "notifier", noon)),
	} {
		text := strings.ReplaceAll(string(data), `"undo":null`, "")
		if strings.Contains(text, "null") {
			t.Errorf("null in %s", data)
		}
	}
	if r.Verification.Checks != nil {
		t.Error("the caller's verification was changed")
	}
}

func TestTheEnvelopeFollowsFromTheData(t *testing.T) {
	d := typicalDecision()
	got := NewEvent(d, "prod.eu", "analyzer", noon.In(time.FixedZone("CET", 3600)))
	got.Data = Decision{}
	want := Event[Decision]{
		SpecVersion: "1.0", ID: d.ID, Source: "/clusters/prod.eu/self-healing/analyzer",
		Type: "dev.selfheal.decision.made.v1", Subject: "shop/Pod/checkout-7d9f6c-x2kpl",
		Time: noon, DataContentType: "application/json",
		CorrelationID: d.IncidentID, CausationID: d.Failure.EventID(), SeverityText: High, ExpiryTime: d.Expires,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := d.Head().Subject("prod.eu"), "selfheal.v1.prod_eu.decisions.pod_failure.recreate.high.shop.pod.checkout-7d9f6c-x2kpl"; got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
}

func TestDecodeNamesWhatItRefuses(t *testing.T) {
	good := string(marshal(t, NewEvent(typicalFailure(), "default", "watcher", noon)))
	id := typicalFailure().EventID()
	for name, test := range map[string]struct{ in, want string }{
		"nothing":               {"", "bad-json: offset 0: unexpected EOF"},
		"only space":            {" \n", "bad-json: offset 0: unexpected EOF"},
		"not JSON":              {"hello", "bad-json: offset 0: invalid character 'h' looking for beginning of value"},
		"cut short":             {good[:118], "bad-json: offset "},
		"trailing bytes":        {good + "{}", "trailing bytes"},
		"byte-order mark":       {"\ufeff" + good, "bad-json: offset 0: invalid character"},
		"invalid UTF-8":         {strings.Replace(good, "CrashLoop", "Crash\xffLoop", 1), "bad-json: invalid UTF-8"},
		"key twice":             {strings.Replace(good, `{"spec`, `{"id":"x","spec`, 1), `key "id" given twice`},
		"key twice, other case": {strings.Replace(good, `{"spec`, `{"ID":"x","spec`, 1), `key "id" given twice`},
		"deep":                  {strings.Replace(good, `{"spec`, `{"x":`+strings.Repeat("[", 12)+strings.Repeat("]", 12)+`,"spec`, 1), "nested deeper than 12"},
		"an array":              {"[]", "bad-json: "},
		"another shape":         {strings.Replace(good, `"occurrence":1`, `"occurrence":"one"`, 1), "bad-json: json: cannot unmarshal string into Go struct field Failure.data.occurrence of type int"},
		"no number":             {strings.Replace(good, `"timestamp":1795`, `"timestamp":1e999`, 1), "bad-json: "},
		"another specversion":   {strings.Replace(good, `"specversion":"1.0"`, `"specversion":"2.0"`, 1), `specversion: "2.0" not supported; have 1.0`},
		"another type":          {strings.Replace(good, "failure.detected.v1", "failure.detected.v2", 1), `type: "dev.selfheal.failure.detected.v2" not supported here; want "dev.selfheal.failure.detected.v1"`},
		"another kind":          {strings.Replace(good, `"type":"pod_failure"`, `"type":"disk_failure"`, 1), `data: type: "disk_failure" is not known`},
		"no id":                 {strings.Replace(good, `"id":"`+id, `"id":"","x":"`, 1), `id: "" is not an id`},
		"id with spaces":        {strings.Replace(good, `"id":"`+id, `"id":"a b","x":"`, 1), `id: "a b" is not an id`},
		"no source":             {strings.Replace(good, `"source":"/clusters`, `"source":"","x":"/clusters`, 1), `source: "" is not /clusters/<cluster>/self-healing/<service>`},
		"another content type":  {strings.Replace(good, `"datacontenttype":"application/json"`, `"datacontenttype":"text/xml"`, 1), `datacontenttype: "text/xml" is not supported; want "application/json"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode[Failure]([]byte(test.in))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v\nwant it to hold %q", err, test.want)
			}
		})
	}
}

func TestDecodeForgivesWhatLaterVersionsAndOtherWritersDo(t *testing.T) {
	want := NewEvent(typicalFailure(), "default", "watcher", noon)
	good := string(marshal(t, want))
	for name, in := range map[string]string{
		"unknown attribute":     strings.Replace(good, `{"spec`, `{"dataschema":"https://example.org/x","spec`, 1),
		"unknown field":         strings.Replace(good, `"occurrence":1`, `"occurrence":1,"mood":{"sad":true}`, 1),
		"other order and space": strings.Replace(good, `{"specversion":"1.0",`, "{ \n", 1)[:len(good)-len(`"specversion":"1.0",`)+1] + ` , "specversion" : "1.0" } `,
		"no datacontenttype":    strings.Replace(good, `"datacontenttype":"application/json",`, "", 1),
		"only what CloudEvents requires": strings.NewReplacer(
			`"datacontenttype":"application/json",`, "", `"severitytext":"medium",`, "",
			`"subject":"`+want.Subject+`",`, "", `"correlationid":"`+want.CorrelationID+`",`, "").Replace(good),
		"broken trace context": strings.Replace(good, `{"spec`, `{"traceparent":"00-1-2-3","spec`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode[Failure]([]byte(in))
			if err != nil {
				t.Fatalf("%v in %s", err, in)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeKeepsTheIDsOfOtherWritersAndBelievesTheDataInAllElse(t *testing.T) {
	want := NewEvent(typicalFailure(), "default", "watcher", noon)
	good := string(marshal(t, want))
	want.ID, want.CorrelationID, want.CausationID = "test-1", "incident-1", "alert-1"
	got, err := Decode[Failure]([]byte(strings.NewReplacer(
		`"id":"f-`, `"causationid":"alert-1","expirytime":"2026-11-22T12:24:22Z","id":"test-1","x":"f-`,
		`"correlationid":"i-`, `"correlationid":"incident-1","y":"i-`,
		`"subject":"shop/Pod/check`, `"subject":"shop/Pod/chuck`,
		`"severitytext":"medium"`, `"severitytext":"low"`,
	).Replace(good)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCheckJSONTellsObjectsApart(t *testing.T) {
	for in, valid := range map[string]bool{
		`{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}`: true,
		`{"a":[],"a":1}`:                 false,
		`{"a":{},"b":[[{"c":1,"c":2}]]}`: false,
		`{"a":"a","b":"a"}`:              true,
		`{"a":"b","b":"a"}`:              true,
		`{"a":{"b":1},"b":2}`:            true,
		`{"key":1,"\u006bey":2}`:         false,
		`{"k":1,"\u212a":2}`:             false, // the Kelvin sign, which encoding/json takes for a k
		`{"a":1}`:                        true,
		`{"a":1`:                         false,
		`{"a":1}}`:                       false,
		`{"a":1} null`:                   false,
		`{"a":1} x`:                      false,
		`{"a" 1}`:                        false,
		`{"a":1,}`:                       false,
		`{"a":NaN}`:                      false,
		`{"a":01}`:                       false,
		`{'a':1}`:                        false,
		`1`:                              true,
		`null`:                           true,
		strings.Repeat("[", 12) + strings.Repeat("]", 12): true,
		strings.Repeat("[", 13) + strings.Repeat("]", 13): false,
		strings.Repeat(`{"a":`, 1<<20):                    false,
	} {
		if err := CheckJSON([]byte(in)); (err == nil) != valid {
			t.Errorf("%.60s: %v, want valid: %t", in, err, valid)
		}
	}
}

func TestUnixTimesHaveMilliseconds(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1795349962.104":   time.UnixMilli(1795349962104).UTC(),
		"1795349962.000":   time.UnixMilli(1795349962000).UTC(),
		"1.005":            time.UnixMilli(1005).UTC(),
		"0.000":            time.UnixMilli(0).UTC(),
		"-0.001":           time.UnixMilli(-1).UTC(),
		"-1.500":           time.UnixMilli(-1500).UTC(),
		"-62135596800.000": {},
		"253402300799.000": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		got, err := json.Marshal(Unix{want})
		if err != nil || string(got) != text {
			t.Errorf("%s is written %s (%v), want %s", want, got, err, text)
		}
		var back Unix
		if err := json.Unmarshal([]byte(text), &back); err != nil || !back.Equal(want) {
			t.Errorf("%s is read as %s (%v), want %s", text, back, err, want)
		}
	}
	for in, want := range map[string]int64{"1795349962": 1795349962000, "1.7953499621042e9": 1795349962104, "1795349962.1036": 1795349962104} {
		var got Unix
		if err := json.Unmarshal([]byte(in), &got); err != nil || got.UnixMilli() != want {
			t.Errorf("%s is read as %d (%v), want %d", in, got.UnixMilli(), err, want)
		}
	}
	for _, in := range []string{`"2026-11-22T12:19:22Z"`, `"1795349962"`, `null`, `1e300`, `-1e300`, `{}`, `true`} {
		var got Unix
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s is read as %s, want an error", in, got)
		} else if want := fmt.Sprintf("timestamp: want seconds since 1970, got %s", in); err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

func TestAResultsEventCanBePassedOnAsItWas(t *testing.T) {
	want := NewEvent(typicalResult(), "default", "actuator", noon)
	want.ID, want.CorrelationID, want.CausationID = "another-writers-id", "incident-1", "decision-1"
	want.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	got := MakeOrigin(want, noon).Event(want.Data)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-was +passed on:\n%s", diff)
	}
}
