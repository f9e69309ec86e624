package policy

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

// published is every pair of type and reason that the watcher can publish, as
// docs/failures.md lists them; that page is generated from the detectors.
func published(t *testing.T) []symptom {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []symptom
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.Contains(cells[2], "`") {
			continue
		}
		of := heal.FailureType(strings.Trim(cells[3], " `"))
		for reason := range strings.SplitSeq(cells[4], ",") {
			all = append(all, symptom{of, strings.Trim(reason, " `")})
		}
	}
	if len(all) < 20 {
		t.Fatalf("docs/failures.md has %d reasons; want all of the watcher's", len(all))
	}
	return all
}

// asDecided is what becomes of each column of the table, low to critical; the
// severities of the first and of a repeated failure are among them.
type asDecided [4]heal.Strategy

var (
	table = map[heal.FailureType]asDecided{
		heal.PodFailure:  {"monitor", "restart", "recreate", "scale_and_replace"},
		heal.NodeFailure: {"monitor", "restart", "drain_and_replace", "drain_and_replace"},
	}
	watched = asDecided{"monitor", "monitor", "monitor", "monitor"}
)

func TestOnlyWhatARestartMayCureIsActedUpon(t *testing.T) {
	want := map[symptom]asDecided{
		{heal.PodFailure, "CrashLoopBackOff"}:           table[heal.PodFailure],
		{heal.PodFailure, "Restarting"}:                 table[heal.PodFailure],
		{heal.PodFailure, "InitContainerFailing"}:       table[heal.PodFailure],
		{heal.PodFailure, "ContainersNotReady"}:         table[heal.PodFailure],
		{heal.PodFailure, "OOMKilled"}:                  {"monitor", "restart", "monitor", "monitor"},
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
		{heal.ResourceExhaustion, "MemoryPressure"}:            watched,
		{heal.ResourceExhaustion, "DiskPressure"}:              watched,
		{heal.ResourceExhaustion, "PIDPressure"}:               watched,
		{heal.DeploymentFailure, "ProgressDeadlineExceeded"}:   {"monitor", "monitor", "rollback", "rollback"},
		{heal.DeploymentFailure, "MinimumReplicasUnavailable"}: watched,
	}
	p := mustBuiltin(t)
	got := map[symptom]asDecided{}
	for _, s := range published(t) {
		var row asDecided
		for i, severity := range heal.Severities {
			strategy, _ := p.Strategy(s.of, severity)
			row[i] = Refine(Case{Severity: severity, Failure: failureLike(s, nil)}, strategy).Strategy
		}
		got[s] = row
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(symptom{})); diff != "" {
		t.Errorf("strategies at low, medium, high, critical (-want +got); a reason that is new must be judged here:\n%s", diff)
	}
}

func failureLike(s symptom, metadata map[string]string) heal.Failure {
	kind := map[heal.FailureType]string{
		heal.PodFailure: "Pod", heal.NodeFailure: "Node", heal.ResourceExhaustion: "Node", heal.DeploymentFailure: "Deployment",
	}[s.of]
	return heal.Failure{Type: s.of, Reason: s.reason, Target: heal.Target{Kind: kind, Name: "x"}, Metadata: metadata}
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
			want: Choice{Strategy: heal.Monitor, Reason: "MoreMemoryNeeded", Steps: []string{
				"it ran out of memory again; it needs a higher memory limit, or its leak mended: monitor instead of restart"}},
		},
		{
			name: "a node under pressure", of: symptom{heal.ResourceExhaustion, "MemoryPressure"}, table: heal.Relieve,
			want: Choice{Strategy: heal.Monitor, Reason: "PressureIsTheKubelets", Steps: []string{
				"the kubelet evicts pods itself until the node has room; if that does not last, requests and limits must fit what is used: monitor instead of relieve"}},
		},
		{
			name: "pressure reported as a node's failure", of: symptom{heal.NodeFailure, "DiskPressure"}, table: heal.EmergencyReplace,
			want: Choice{Strategy: heal.Monitor, Reason: "PressureIsTheKubelets", Steps: []string{
				"no proof that the node is dead: drain_and_replace instead of emergency_replace",
				"the kubelet evicts pods itself until the node has room; if that does not last, requests and limits must fit what is used: monitor instead of drain_and_replace"}},
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

func TestASummaryOfWhatIsOnlyWatchedSaysWhy(t *testing.T) {
	got := Explain(Account{
		Table: heal.Restart, Refined: []string{"no restart helps: monitor instead of restart"},
		Decision: heal.Decision{Strategy: heal.Monitor, Severity: heal.Medium, Target: heal.Target{Kind: "Pod", Namespace: "shop", Name: "web"}, Failure: heal.Failure{Reason: "Unschedulable"}},
	}).Summary
	if want := "Only watch shop/Pod/web (Unschedulable, severity medium, 0 similar failures): no restart helps: monitor instead of restart."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
