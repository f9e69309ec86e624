package own

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// page is where operators read how to write the file.
const page = "../../../../docs/own-detectors.md"

// example is the file that the page shows.
func example(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```yaml\n")
	file, _, end := strings.Cut(rest, "```\n")
	if !ok || !end {
		t.Fatal("the page shows no file")
	}
	return []byte(file)
}

// seen is an object as detectors see it.
func seen(obj *unstructured.Unstructured) *Object { return Clean(obj.Object) }

func never(t testing.TB) Trouble {
	return func(detector string, err error) { t.Errorf("%s: %v", detector, err) }
}

func certificate(status string, change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "Certificate",
		"metadata": map[string]any{"name": "web", "namespace": "shop", "uid": "u1"},
		"spec":     map[string]any{"secretName": "web-tls"},
		"status": map[string]any{"conditions": []any{
			map[string]any{"type": "Issuing", "status": "False"},
			map[string]any{"type": "Ready", "status": status, "message": "the order failed"},
		}},
	}}
	for _, c := range change {
		c(obj)
	}
	return obj
}

func TestTheExampleOfThePageWorks(t *testing.T) {
	kinds, err := Parse(example(t), nil, never(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(kinds) != 1 {
		t.Fatalf("%d kinds, want 1", len(kinds))
	}
	k := kinds[0]
	if got, want := (Kind{k.Version, k.Kind, k.Group, k.Resource, k.Namespaced, nil}), (Kind{"cert-manager.io/v1", "Certificate", "cert-manager.io", "certificates", true, nil}); !cmp.Equal(got, want) {
		t.Errorf("(-got +want)\n%s", cmp.Diff(got, want))
	}
	d := k.Detectors[0]
	if d.Name != "own.certificate_not_ready" || d.Type != heal.ResourceExhaustion {
		t.Errorf("detector %s of type %s", d.Name, d.Type)
	}
	want := []detect.Finding{{
		Reason: "CertificateNotReady", Hold: 10 * time.Minute,
		Description: "certificate web is not ready: the order failed",
		Evidence: []heal.Evidence{
			{Path: "spec.secretName", Value: "web-tls"},
			{Path: "status.conditions", Value: `[{"status":"False","type":"Issuing"},{"message":"the order failed","status":"False","type":"Ready"}]`},
		},
	}}
	if diff := cmp.Diff(d.Find(seen(certificate("False")), detect.Facts{}), want); diff != "" {
		t.Errorf("failing: (-got +want)\n%s", diff)
	}
	if got := d.Find(seen(certificate("True")), detect.Facts{}); got != nil || !d.Well(seen(certificate("True")), "") || d.Well(seen(certificate("False")), "") {
		t.Errorf("ready: %v", got)
	}
	for name, tt := range map[string]struct {
		obj  *unstructured.Unstructured
		want detect.Excuse
	}{
		"it counts": {certificate("False"), detect.None},
		"on its way out": {certificate("False", func(o *unstructured.Unstructured) {
			now := metav1.Now()
			o.SetDeletionTimestamp(&now)
		}), detect.Leaving},
		"excused": {certificate("False", func(o *unstructured.Unstructured) {
			o.SetAnnotations(map[string]string{"example.com/paused": "true"})
		}), detect.Masked},
	} {
		if got := d.Excuse(seen(tt.obj), detect.Facts{}); got != tt.want {
			t.Errorf("%s: excuse %v, want %v", name, got, tt.want)
		}
	}
	if got := d.Clear(detect.Thresholds{}); got != time.Minute {
		t.Errorf("clear after %s, want a minute", got)
	}
}

// file is a file with one detector, of which lines are replaced; an empty
// value leaves the line out.
func file(changes map[string]string) string {
	var b strings.Builder
	b.WriteString("detectors:\n")
	lead := "- "
	for _, line := range [][2]string{
		{"name", "queue_full"}, {"version", "example.com/v1"}, {"kind", "Queue"}, {"resource", "queues"}, {"namespaced", "true"},
		{"type", "resource_exhaustion"}, {"reason", "QueueFull"}, {"hold", "1m"}, {"clear", "30s"},
		{"expression", "object.status.used >= object.spec.size"}, {"excuse", "false"}, {"description", `'"full"'`}, {"evidence", "[status.used]"},
	} {
		value, changed := changes[line[0]]
		if !changed {
			value = line[1]
		}
		if value != "" {
			b.WriteString(lead + line[0] + ": " + value + "\n")
			lead = "  "
		}
	}
	return b.String() + changes["more"]
}

func TestWhatIsWrongWithAFileIsSaidWithItsLine(t *testing.T) {
	type change = map[string]string
	for name, tt := range map[string]struct {
		file string
		want string
	}{
		"empty":               {"", "it is empty; want a list under the key detectors"},
		"no list":             {"detectors: []\n", "0 detectors; want 1 to 200"},
		"not YAML":            {"detectors: [\n", "line 1:"},
		"two documents":       {file(nil) + "---\n{}\n", "second document"},
		"unknown field":       {file(change{"more": "  serverity: high\n"}), "line 15: unknown field serverity; want name, version"},
		"field given twice":   {file(change{"more": "  kind: Queue\n"}), `mapping key "kind" already defined at line 4`},
		"name":                {file(change{"name": "Queue-Full"}), `line 2: detector "Queue-Full": name: "Queue-Full" is not a name in lower case`},
		"no name":             {file(change{"name": ""}), `line 2: detector "": name: "" is not a name`},
		"version":             {file(change{"version": "example.com"}), `version: "example.com" is not a group and version, as in cert-manager.io/v1`},
		"kind":                {file(change{"kind": "queue"}), `kind: "queue" is not a kind, as in Certificate`},
		"resource":            {file(change{"resource": "Queues"}), `resource: "Queues" is not the plural in lower case`},
		"reason":              {file(change{"reason": "queue full"}), `reason: "queue full" is not one word in camel case`},
		"type":                {file(change{"type": "queue_failure"}), `type: "queue_failure" is not known; want one of [node_failure pod_failure`},
		"hold without unit":   {file(change{"hold": "5"}), `line 9: "5" is not a duration between 0s and 24h0m0s; write it as in 90s or 10m`},
		"hold too long":       {file(change{"hold": "25h"}), `line 9: "25h" is not a duration`},
		"secrets":             {file(change{"version": "v1", "kind": "Secret", "resource": "secrets"}), "kind: Secrets are never read"},
		"secrets by plural":   {file(change{"version": "v1", "resource": "secrets"}), "kind: Secrets are never read"},
		"resource of another": {file(change{"version": "v1", "kind": "Pod", "resource": "pod"}), `line 2: detector "queue_full": resource: "pod" is not that of Pod; want pods`},
		"not in namespaces":   {file(change{"version": "v1", "kind": "Pod", "resource": "pods", "namespaced": "false"}), "namespaced: false is not true of Pod; want true"},
		"no expression":       {file(change{"expression": ""}), "expression: is empty; want an expression that is true while an object fails"},
		"syntax":              {file(change{"expression": "object.status.used >="}), `line 11: detector "queue_full": expression: line 1, column 22 of the expression: Syntax error`},
		"unknown name":        {file(change{"expression": "objct.status == 1"}), `line 11: detector "queue_full": expression: line 1, column 1 of the expression: undeclared reference to 'objct'`},
		"wrong types":         {file(change{"expression": `'1 + "a" == 2'`}), "line 1, column 3 of the expression: found no matching overload"},
		"not a bool":          {file(change{"expression": "object.status.full"}), "it comes to dyn, want bool; what an object holds has no type until it is compared or converted, as in == true"},
		"a number":            {file(change{"expression": "1 + 1"}), "it comes to int, want bool"},
		"excuse":              {file(change{"excuse": "1"}), "line 12: detector \"queue_full\": excuse: it comes to int, want bool"},
		"description":         {file(change{"description": "1 + 2"}), "line 13: detector \"queue_full\": description: it comes to int, want string"},
		"too long":            {file(change{"expression": `'"` + strings.Repeat("x", 5000) + `" == ""'`}), "want at most 4096"},
		"path":                {file(change{"evidence": `["status..used"]`}), `line 14: detector "queue_full": evidence: "status..used" is not a path of fields`},
		"path of wildcards":   {file(change{"evidence": `["status[*]"]`}), `"status[*]" is not a path`},
		"the same name twice": {file(nil) + strings.TrimPrefix(file(nil), "detectors:\n"), `line 15: detector "queue_full": name: there is another "queue_full" in line 2`},
		"kinds that disagree": {file(nil) + strings.TrimPrefix(file(change{"name": "other", "resource": "queuez"}), "detectors:\n"), `resource, namespaced: another than those of detector "queue_full" in line 2`},
		"several things":      {file(change{"type": "x", "reason": "y z"}), `type: "x" is not known`},
	} {
		_, err := Parse([]byte(tt.file), []Kind{{Version: "v1", Kind: "Pod", Resource: "pods", Namespaced: true}}, never(t))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v\nwant %q", name, err, tt.want)
		}
	}
	_, err := Parse([]byte(file(change{"type": "x", "reason": "y z"})), nil, never(t))
	if err == nil || !strings.Contains(err.Error(), "reason:") || !strings.Contains(err.Error(), "type:") {
		t.Errorf("not all that is wrong is said: %v", err)
	}
}

func TestAFileIsNamedInWhatIsWrongWithIt(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yaml")
	if _, err := Load(missing, nil, never(t)); err == nil || !strings.HasPrefix(err.Error(), "detectors_file "+missing+": ") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte(file(nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	if kinds, err := Load(good, nil, never(t)); err != nil || len(kinds) != 1 {
		t.Errorf("%d kinds, %v", len(kinds), err)
	}
}

func queue(status map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Queue", "metadata": map[string]any{"name": "q"},
		"spec": map[string]any{"size": int64(10)}, "status": status,
	}}
}

func TestAnExpressionThatFailsFindsNothingAndIsSaidOnce(t *testing.T) {
	var told []string
	tally := &Tally{Tell: func(detector string, err error) { told = append(told, detector+": "+err.Error()) }}
	kinds, err := Parse([]byte(file(nil)), nil, tally.Note)
	if err != nil {
		t.Fatal(err)
	}
	d := kinds[0].Detectors[0]
	for range 3 {
		if got := d.Find(seen(queue(nil)), detect.Facts{}); got != nil {
			t.Errorf("found %v", got)
		}
	}
	if d.Well(seen(queue(nil)), "") {
		t.Error("what cannot be judged is well")
	}
	if diff := cmp.Diff(told, []string{"own.queue_full: expression: no such key: used"}); diff != "" {
		t.Errorf("told (-got +want)\n%s", diff)
	}
	if diff := cmp.Diff(tally.Counts(), map[string]int{"own.queue_full": 3}); diff != "" {
		t.Errorf("counted (-got +want)\n%s", diff)
	}
	if got := d.Find(seen(queue(map[string]any{"used": int64(11)})), detect.Facts{}); len(got) != 1 {
		t.Errorf("afterwards: found %v", got)
	}
}

func TestAnExpressionCannotCostMuch(t *testing.T) {
	var failed error
	kinds, err := Parse([]byte(file(map[string]string{
		"expression": `object.spec.list.exists(a, object.spec.list.exists(b, object.spec.list.exists(c, a + b + c == -1)))`,
	})), nil, func(_ string, err error) { failed = err })
	if err != nil {
		t.Fatal(err)
	}
	obj := queue(nil)
	list := make([]any, 1000)
	for i := range list {
		list[i] = int64(i)
	}
	obj.Object["spec"].(map[string]any)["list"] = list
	if got := kinds[0].Detectors[0].Find(seen(obj), detect.Facts{}); got != nil {
		t.Errorf("found %v", got)
	}
	if failed == nil || !strings.Contains(failed.Error(), "cost limit exceeded") {
		t.Errorf("it failed with %v", failed)
	}
}

func TestWhatIsNeverCopiedIsNeverSeen(t *testing.T) {
	kinds, err := Parse([]byte(file(map[string]string{
		"expression":  `'true'`,
		"description": `'string(object.spec)'`,
		"evidence":    `[spec, data, "spec.template.containers[0].env", metadata.annotations]`,
	})), nil, func(string, error) {})
	if err != nil {
		t.Fatal(err)
	}
	obj := queue(nil)
	obj.Object["data"] = map[string]any{"key": "canary"}
	obj.Object["spec"] = map[string]any{"template": map[string]any{"containers": []any{map[string]any{
		"name": "app", "env": []any{map[string]any{"name": "TOKEN", "value": "canary"}}, "command": []any{"canary"}, "args": []any{"canary"},
		"livenessProbe": map[string]any{"exec": map[string]any{"command": []any{"canary"}}, "httpGet": map[string]any{"path": "/", "httpHeaders": []any{"canary"}}},
	}}}, "token": "canary"}
	obj.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "canary", "team": "shop"})
	got := kinds[0].Detectors[0].Find(seen(obj), detect.Facts{})
	want := []detect.Finding{{
		Reason: "QueueFull", Hold: time.Minute, Description: "Queue q: QueueFull", // a whole object has no form as a text
		Evidence: []heal.Evidence{
			{Path: "spec", Value: `{"template":{"containers":[{"livenessProbe":{"exec":{},"httpGet":{"path":"/"}},"name":"app"}]}}`},
			{Path: "metadata.annotations", Value: `{"team":"shop"}`},
		},
	}}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	if _, kept := obj.Object["data"]; !kept {
		t.Error("the object itself was changed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(file(nil)))
	f.Add(example(f))
	f.Add([]byte("detectors:\n- name: x\n  expression: 'object.a[0].b'\n"))
	obj := queue(map[string]any{"used": int64(11)})
	f.Fuzz(func(t *testing.T, data []byte) {
		kinds, err := Parse(data, nil, func(string, error) {})
		if err != nil {
			return
		}
		for _, k := range kinds {
			for _, d := range k.Detectors {
				d.Find(seen(obj), detect.Facts{})
				d.Excuse(seen(obj), detect.Facts{})
			}
		}
	})
}
