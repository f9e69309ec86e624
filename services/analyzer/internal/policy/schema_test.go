package policy

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// TestTheSchemaAndTheParserAgree keeps api/schemas/policy.v1.json, which
// editors check a policy with, from saying anything else than we do. What only
// we can tell (an expression, a time zone, bounds of durations) is not here.
func TestTheSchemaAndTheParserAgree(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../../../api/schemas/policy.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		text string
		good bool
	}{
		{"the built-in policy", builtin, true},
		{"a name", "name: x\n", true},
		{"a rule", "rules: [{name: a, match: 'true', severity: high, strategy: recreate, mode: approve, window: {days: [mon], from: '08:00', to: '18:00', zone: Europe/Berlin}}]\n", true},
		{"maintenance", "guards: {maintenance: [{name: a, days: [tue], from: '22:00', to: '04:00', zone: UTC, namespaces: [shop]}]}\n", true},
		{"durations", "similar: {window: 90s}\nguards: {oldest: 600, backoff: {first: 1m, longest: 1h30m}}\n", true},
		{"a rule without a name", "rules: [{mode: observe}]\n", false},
		{"a rule that says nothing", "rules: [{name: a}]\n", false},
		{"an unknown key", "rulez: []\n", false},
		{"a budget", "rules: [{name: a, budget: {actions: 3, per: 1h}}]\n", true},
		{"a budget without a time", "rules: [{name: a, budget: {actions: 3}}]\n", false},
		{"a budget of nothing", "rules: [{name: a, budget: {actions: 0, per: 1h}}]\n", false},
		{"an unknown key of a rule", "rules: [{name: a, mode: observe, budge: 3}]\n", false},
		{"an unknown mode", "rules: [{name: a, mode: watch}]\n", false},
		{"a strategy of another kind", "strategy: {pod_failure: {high: drain_and_replace}}\n", false},
		{"an unknown type", "severity: {pods: low}\n", false},
		{"too large a share", "guards: {storm: {share: 0.9}}\n", false},
		{"no limit", "guards: {actions_per_minute: 0}\n", false},
		{"a bad namespace", "guards: {protected_namespaces: [A_B]}\n", false},
		{"a bad time", "rules: [{name: a, mode: observe, window: {from: noon}}]\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := yaml.YAMLToJSON([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); (err == nil) != tt.good {
				t.Errorf("the schema says %v", err)
			}
			if _, err := Parse([]byte(tt.text)); (err == nil) != tt.good {
				t.Errorf("we say %v", err)
			}
		})
	}
}
