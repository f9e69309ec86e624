package policy

import (
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

// asDecided is what becomes of each column of the table, low to critical; the
// severities of the first and of a repeated failure are among them.
type asDecided [4]heal.Strategy

var (
	table = map[heal.FailureType]asDecided{
		heal.PodFailure:  {"monitor", "restart", "recreate", "scale_and_replace"},
		heal.NodeFailure: {"monitor", "restart", "drain_and_replace", "emergency_replace"},
	}
	watched = asDecided{"monitor", "monitor", "monitor", "monitor"}
	pressed = asDecided{"monitor", "monitor", "relieve", "relieve"} // from the third time within the window on
)

func TestOnlyWhatARestartMayCureIsActedUpon(t *testing.T) {
	want := map[symptom]asDecided{
		{heal.PodFailure, "CrashLoopBackOff"}:           table[heal.PodFailure],
		{heal.PodFailure, "Restarting"}:                 table[heal.PodFailure],
		{heal.PodFailure, "InitContainerFailing"}:       table[heal.PodFailure],
		{heal.PodFailure, "ContainersNotReady"}:         table[heal.PodFailure],
		{heal.PodFailure, "OOMKilled"}:                  {"monitor", "restart", "monitor", "monitor"}, // for the first time
		{heal.PodFailure, "ImagePullBackOff"}:           watched,
		{heal.PodFailure, "InvalidImageName"}:           watched,
		{heal.PodFailure, "ErrImageNeverPull"}:          watched,
		{heal.PodFailure, "CreateContainerConfigError"}: watched,
		{heal.PodFailure, "CreateContainerError"}:       watched,
		{heal.PodFailure, "StuckCreating"}:              watched,
		{heal.PodFailure, "Unschedulable"}:              watched,
		{heal.PodFailure, "StuckTerminating"}:           watched,

		{heal.NodeFailure, "KubeletNotReady"}:                  table[heal.NodeFailure],
		{heal.NodeFailure, "NodeStatusUnknown"}:                table[heal.NodeFailure],
		{heal.NodeFailure, "NetworkUnavailable"}:               table[heal.NodeFailure],
		{heal.NodeFailure, "ReadonlyFilesystem"}:               table[heal.NodeFailure],
		{heal.NodeFailure, "KernelDeadlock"}:                   table[heal.NodeFailure],
		{heal.NodeFailure, "ContainerRuntimeUnhealthy"}:        table[heal.NodeFailure],
		{heal.NodeFailure, "KubeletUnhealthy"}:                 table[heal.NodeFailure],
		{heal.NodeFailure, "FrequentKubeletRestart"}:           table[heal.NodeFailure],
		{heal.NodeFailure, "FrequentContainerdRestart"}:        table[heal.NodeFailure],
		{heal.ResourceExhaustion, "MemoryPressure"}:            pressed,
		{heal.ResourceExhaustion, "DiskPressure"}:              pressed,
		{heal.ResourceExhaustion, "PIDPressure"}:               pressed,
		{heal.DeploymentFailure, "ProgressDeadlineExceeded"}:   {"monitor", "monitor", "rollback", "rollback"},
		{heal.DeploymentFailure, "MinimumReplicasUnavailable"}: watched,
	}
	p := mustBuiltin(t)
	got := map[symptom]asDecided{}
	for s := range want {
		var row asDecided
		for i, severity := range heal.Severities {
			strategy, _ := p.Strategy(s.of, severity)
			row[i] = Refine(Case{Severity: severity, Failure: failureLike(s, nil)}, strategy).Strategy
		}
		got[s] = row
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(symptom{})); diff != "" {
		t.Errorf("strategies at low, medium, high, critical (-want +got)\n%s", diff)
	}
}

func failureLike(s symptom, metadata map[string]string) heal.Failure {
	kind := map[heal.FailureType]string{
		heal.PodFailure: "Pod", heal.NodeFailure: "Node", heal.ResourceExhaustion: "Node", heal.DeploymentFailure: "Deployment",
	}[s.of]
	return heal.Failure{Type: s.of, Reason: s.reason, Target: heal.Target{Kind: kind, Name: "x"}, Metadata: metadata}
}

// TestARecordAboutANodeNeverLeadsToAnAction holds also for a rule that asks for one.
func TestARecordAboutANodeNeverLeadsToAnAction(t *testing.T) {
	for _, reason := range []string{"NodeRebooted", "ForgottenCordon", "NodeFlapping", "NodeNeverReady", "NodeSuspected", "KubeletCertificateExpiring", "AcceleratorUnhealthy", "PLEGUnhealthy"} {
		for _, s := range heal.Strategies {
			for _, ruled := range []bool{false, true} {
				c := Case{Failure: failureLike(symptom{heal.NodeFailure, reason}, nil), Severity: heal.Critical, Ruled: ruled}
				if got := Refine(c, s); got.Strategy != heal.Monitor {
					t.Errorf("%s asked for %s (by a rule: %v): %s", reason, s, ruled, got.Strategy)
				}
			}
		}
	}
	if RoleOf(heal.NodeFailure, "PLEGUnhealthy") != Leads {
		t.Error("the pods of a node that is not ready for its PLEG do not follow from it")
	}
}

func TestARefinementSaysWhyAndWhatHelps(t *testing.T) {
	tests := []struct {
		name     string
		of       symptom
		metadata map[string]string
		similar  int
		table    heal.Strategy
		want     Choice
	}{
		{
			name: "an image that cannot be pulled", of: symptom{heal.PodFailure, "ImagePullBackOff"}, table: heal.Recreate,
			want: Choice{Strategy: heal.Monitor, Reason: "RestartNeverCures", Steps: []string{
				"no restart makes the image pullable, and each pulls again; it needs the right image, a pull secret, or its registry: monitor instead of recreate"}},
		},
		{
			name: "what is watched anyway is watched because of the table", of: symptom{heal.PodFailure, "ImagePullBackOff"}, table: heal.Monitor,
			want: Choice{Strategy: heal.Monitor, Reason: heal.ReasonSeverityTable},
		},
		{
			name: "the same word said of something else", of: symptom{heal.ServiceFailure, "ImagePullBackOff"}, table: heal.Restart,
			want: Choice{Strategy: heal.Restart, Reason: heal.ReasonSeverityTable},
		},
		{
			name: "a command that is not there", of: symptom{heal.PodFailure, "CrashLoopBackOff"}, metadata: map[string]string{"exit_code": "127"}, table: heal.Restart,
			want: Choice{Strategy: heal.Monitor, Reason: "RestartNeverCures", Steps: []string{
				"no restart finds the container's command (exit 127); the image or the command must be corrected, or rolled back: monitor instead of restart"}},
		},
		{
			name: "a program that fails", of: symptom{heal.PodFailure, "CrashLoopBackOff"}, metadata: map[string]string{"exit_code": "1"}, table: heal.Restart,
			want: Choice{Strategy: heal.Restart, Reason: heal.ReasonSeverityTable},
		},
		{
			name: "out of memory, for the first time", of: symptom{heal.PodFailure, "OOMKilled"}, table: heal.Restart,
			want: Choice{Strategy: heal.Restart, Reason: heal.ReasonSeverityTable},
		},
		{
			name: "out of memory again", of: symptom{heal.PodFailure, "OOMKilled"}, similar: 1, table: heal.Restart,
			want: Choice{Strategy: heal.Resize, Reason: "MoreMemoryNeeded", Steps: []string{
				"it ran out of memory again; it needs a higher memory limit, or its leak mended: resize instead of restart"}},
		},
		{
			name: "out of memory at each start", of: symptom{heal.PodFailure, "CrashLoopBackOff"}, metadata: map[string]string{"last_reason": "OOMKilled"}, similar: 1, table: heal.Restart,
			want: Choice{Strategy: heal.Resize, Reason: "MoreMemoryNeeded", Steps: []string{
				"it ran out of memory again; it needs a higher memory limit, or its leak mended: resize instead of restart"}},
		},
		{
			name: "a pod without a controller", of: symptom{heal.PodFailure, "BarePodFailed"}, table: heal.Restart,
			want: Choice{Strategy: heal.Monitor, Reason: "NeedsAPerson", Steps: []string{
				"nobody makes a pod without a controller anew, so it is neither evicted nor deleted unless selfheal.dev/recreate on it permits us to: monitor instead of restart"}},
		},
		{
			name: "a pod without a controller that may be made anew", of: symptom{heal.PodFailure, "BarePodFailed"}, metadata: map[string]string{"recreate": "permitted"}, table: heal.Restart,
			want: Choice{Strategy: heal.Restart, Reason: heal.ReasonSeverityTable},
		},
		{
			name: "a node under pressure", of: symptom{heal.ResourceExhaustion, "MemoryPressure"}, table: heal.Resize,
			want: Choice{Strategy: heal.Monitor, Reason: "PressureIsTheKubelets", Steps: []string{
				"the kubelet evicts pods itself until the node has room; if that does not last, requests and limits must fit what is used: monitor instead of resize"}},
		},
		{
			name: "pressure reported as a node's failure", of: symptom{heal.NodeFailure, "DiskPressure"}, table: heal.EmergencyReplace,
			want: Choice{Strategy: heal.Monitor, Reason: "PressureIsTheKubelets", Steps: []string{
				"the kubelet evicts pods itself until the node has room; if that does not last, requests and limits must fit what is used: monitor instead of emergency_replace"}},
		},
		{
			name: "a deployment of which nothing is available", of: symptom{heal.DeploymentFailure, "MinimumReplicasUnavailable"}, table: heal.Rollback,
			want: Choice{Strategy: heal.Monitor, Reason: "PodsAreActedUpon", Steps: []string{
				"that no replica is available does not say why; what its pods suffer from is acted upon: monitor instead of rollback"}},
		},
		{
			name: "a roll-out that stalled", of: symptom{heal.DeploymentFailure, "ProgressDeadlineExceeded"}, table: heal.Rollback,
			want: Choice{Strategy: heal.Rollback, Reason: heal.ReasonSeverityTable},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Refine(Case{Failure: failureLike(tt.of, tt.metadata), Similar: tt.similar}, tt.table)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNothingIsDoneToAKindWithoutARecovery(t *testing.T) {
	tests := []struct {
		of     heal.FailureType
		kind   string
		owner  string
		reason string // of the decision
	}{
		{heal.DeploymentFailure, "Job", "", "NoRecoveryForKind"},
		{heal.DeploymentFailure, "CronJob", "", "NoRecoveryForKind"},
		{heal.DeploymentFailure, "PodDisruptionBudget", "", "NoRecoveryForKind"},
		{heal.ResourceExhaustion, "PersistentVolume", "", "NoRecoveryForKind"},
		{heal.ResourceExhaustion, "Pod", "", "NoRecoveryForKind"}, // none that relieves
		{heal.ResourceExhaustion, "PersistentVolumeClaim", "", heal.ReasonSeverityTable},
		{heal.ResourceExhaustion, "ResourceQuota", "", "NoRecoveryForKind"},
		{heal.ServiceFailure, "APIService", "", "NoRecoveryForKind"},
		{heal.NodeFailure, "Namespace", "", "NoRecoveryForKind"},
		{heal.PodFailure, "Pod", "Job", "JobsRetryThemselves"},
		{heal.PodFailure, "Pod", "CronJob", "JobsRetryThemselves"},
		{heal.PodFailure, "Pod", "Deployment", heal.ReasonSeverityTable},
	}
	p := mustBuiltin(t)
	for _, tt := range tests {
		t.Run(tt.kind+" of "+tt.owner, func(t *testing.T) {
			f := heal.Failure{Type: tt.of, Reason: "SomethingNew", Target: heal.Target{Kind: tt.kind, Namespace: "shop", Name: "x"}}
			f.Owner.Kind = tt.owner
			table, _ := p.Strategy(tt.of, heal.High)
			got := Refine(Case{Failure: f, Severity: heal.High, Cause: heal.Cause{Kind: heal.CauseConfig, Confidence: 0.1}}, table)
			want := heal.Monitor
			if tt.reason == heal.ReasonSeverityTable {
				want = table
			}
			if got.Strategy != want || got.Reason != tt.reason {
				t.Errorf("%s, %s; want %s, %s", got.Strategy, got.Reason, want, tt.reason)
			}
		})
	}
}

// TestEveryRemedyHasItsReasons keeps a row from refusing something without
// saying why, or from crossing kinds.
func TestEveryRemedyHasItsReasons(t *testing.T) {
	for s, r := range remedies {
		for _, strategy := range heal.Strategies {
			c := Case{Failure: failureLike(s, nil)}
			better, reason, why, refused := byRemedy(c, strategy)
			if refused && (better != heal.Monitor || reason == "" || why == "") {
				t.Errorf("%v: %s becomes %s because of %q, %q", s, strategy, better, reason, why)
			}
		}
		for _, strategy := range r.may {
			if !slices.Contains(choices(s.of), strategy) && strategy != heal.Resize {
				t.Errorf("%v: %s does not belong to its type", s, strategy)
			}
		}
	}
}

var update = flag.Bool("update", false, "write docs/remedies.md")

// TestThePageOfRemediesIsTheTable compares docs/remedies.md with the table.
func TestThePageOfRemediesIsTheTable(t *testing.T) {
	const page = "../../../../docs/remedies.md"
	want := Page()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("run go test ./internal/policy -update in services/analyzer (-got +want)\n%s", diff)
	}
}

func TestTheSameSymptomOfAnotherCauseIsAnotherDecision(t *testing.T) {
	of := func(kind heal.CauseKind, confidence float64) heal.Cause {
		return heal.Cause{Kind: kind, Confidence: confidence, Evidence: []string{"as was seen"}}
	}
	tests := []struct {
		name   string
		change func(*Case)
		table  heal.Strategy
		want   Choice
	}{
		{"a new revision", func(c *Case) { c.Cause = of(heal.CauseRollout, 0.9) }, heal.Restart,
			Choice{Strategy: heal.Rollback, Reason: "NewRevisionFails", OnOwner: true, Steps: []string{"as was seen; only the revision before cures that: rollback instead of restart"}}},
		{"a new revision of what cannot be rolled back", func(c *Case) { c.Cause = of(heal.CauseRollout, 0.9); c.Failure.Owner.Kind = "CustomThing" }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "NewRevisionFails", Steps: []string{"as was seen; no restart changes that, and there is no roll-back for its owner: a person must roll it back: monitor instead of restart"}}},
		{"a new revision, though to roll back never helped", func(c *Case) { c.Cause = of(heal.CauseRollout, 0.9); c.InVain = rollback }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "NeverHelped", Steps: []string{"as was seen; but rolling back never helped: a person must look: monitor instead of restart"}}},
		{"a node", func(c *Case) { c.Cause = of(heal.CauseNode, 0.7) }, heal.Restart,
			Choice{Strategy: heal.Recreate, Reason: "NodeSuspected", Steps: []string{"as was seen; the pod is made anew elsewhere, and a person should look at the node: recreate instead of restart"}}},
		{"a node, though to recreate never helped", func(c *Case) { c.Cause = of(heal.CauseNode, 0.7); c.InVain = []heal.Strategy{heal.Recreate} }, heal.Restart,
			Choice{Strategy: heal.Restart, Reason: heal.ReasonSeverityTable}},
		{"a dependency", func(c *Case) { c.Cause = of(heal.CauseDependency, 0.9) }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "WaitsForDependency", Steps: []string{"as was seen; no restart brings that back, and the pod is restarted once it is there: monitor instead of restart"}}},
		{"a dependency that is back", func(c *Case) { c.Back = "shop/Service/db" }, heal.Recreate,
			Choice{Strategy: heal.Restart, Reason: "DependencyIsBack", Steps: []string{"shop/Service/db, which it waited for, is back, and its own back-off would only delay it: restart instead of recreate"}}},
		{"a missing object", func(c *Case) { c.Cause = of(heal.CauseConfig, 0.8) }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "ObjectMissing", Steps: []string{"as was seen; no restart creates it: monitor instead of restart"}}},
		{"a changed object", func(c *Case) {
			c.Cause = heal.Cause{Kind: heal.CauseConfig, Confidence: 0.65, Evidence: []string{"ConfigMap web was changed 2m0s before this began"}}
		}, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "ConfigChanged", Steps: []string{"ConfigMap web was changed 2m0s before this began; no restart takes that back: a person must look at the change: monitor instead of restart"}}},
		{"no room", func(c *Case) { c.Cause = of(heal.CauseCapacity, 0.8) }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "NoCapacity", Steps: []string{"as was seen; a pod made anew needs the same room: monitor instead of restart"}}},
		{"a registry", func(c *Case) { c.Cause = of(heal.CauseRegistry, 0.8) }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "RegistryRefuses", Steps: []string{"as was seen; no restart changes that, and each pulls again: monitor instead of restart"}}},
		{"a cause that is hardly believed", func(c *Case) { c.Cause = of(heal.CauseRollout, 0.5) }, heal.Restart,
			Choice{Strategy: heal.Restart, Reason: heal.ReasonSeverityTable}},
		{"a cause, though the policy only watches", func(c *Case) { c.Cause = of(heal.CauseRollout, 0.9) }, heal.Monitor,
			Choice{Strategy: heal.Monitor, Reason: heal.ReasonSeverityTable}},
		{"a strategy that never helped", func(c *Case) { c.InVain = []heal.Strategy{heal.Restart} }, heal.Restart,
			Choice{Strategy: heal.Recreate, Reason: "NeverHelped", Steps: []string{"it was tried against this cause before, and never helped: recreate instead of restart"}}},
		{"several that never helped", func(c *Case) { c.InVain = podStrategies }, heal.Restart,
			Choice{Strategy: heal.Monitor, Reason: "NeverHelped", Steps: []string{"it was tried against this cause before, and never helped, and nothing else is left to try: a person must look: monitor instead of restart"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Case{Failure: failureLike(symptom{heal.PodFailure, "CrashLoopBackOff"}, nil)}
			c.Failure.Owner.Kind = "Deployment"
			tt.change(&c)
			if diff := cmp.Diff(Refine(c, tt.table), tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestASummaryOfWhatIsOnlyWatchedSaysWhy(t *testing.T) {
	got := Explain(Account{
		Table: heal.Restart, Refined: []string{"no restart helps: monitor instead of restart"},
		Decision: heal.Decision{Strategy: heal.Monitor, Severity: heal.Medium, Target: heal.Target{Kind: "Pod", Namespace: "shop", Name: "web"}, Failure: heal.Failure{Reason: "Unschedulable"}},
	}).Summary
	if want := "Only watch shop/Pod/web (Unschedulable, severity medium, 0 similar failures): no restart helps: monitor instead of restart."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
