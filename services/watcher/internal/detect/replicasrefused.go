package detect

import (
	"fmt"
	"regexp"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// replicasRefused finds deployments whose pods the API server refuses to
// create. Who refuses them is told from its words: a quota wants something
// else than a webhook that is down.
var replicasRefused = Detector[*appsv1.Deployment]{
	Name: "replicas_refused",
	Row:  "W2",
	Type: heal.DeploymentFailure,

	Reasons: []string{failedCreate},
	Hold:    "2 min",
	Excused: deploymentExcused + "; its namespace is being deleted",

	Find:   findRefused,
	Excuse: deploymentExcuse,
	Well: func(d *appsv1.Deployment, _ string) bool {
		_, refused := refusedCreation(d)
		return !refused
	},
}

const (
	failedCreate = "FailedCreate"
	refusedHold  = 2 * time.Minute
)

// refusedCreation finds the condition that says so. (FailedDelete, the other
// reason that it can have, leaves a replica too many.)
func refusedCreation(d *appsv1.Deployment) (int, bool) {
	i, c := deploymentCondition(d, appsv1.DeploymentReplicaFailure)
	return i, c != nil && c.Status == corev1.ConditionTrue && c.Reason == failedCreate
}

func findRefused(d *appsv1.Deployment, _ Facts) []Finding {
	i, refused := refusedCreation(d)
	if !refused {
		return nil
	}
	r := refusalOf(d.Status.Conditions[i].Message)
	if r.by == "namespace" {
		return nil // it goes, and all that is in it
	}
	f := deploymentFinding(d, i, fmt.Sprintf("is refused pods by %s", r.words), refusedHold)
	for key, value := range refusalFinding(r, refusedHold).Metadata {
		f.Metadata[key] = value
	}
	return []Finding{f}
}

// A refusal says who refuses to create a pod.
type refusal struct {
	by    string // stable
	words string // for a sentence
	name  string // of the quota, the webhook, …; empty if it is not told
}

// refusers tells from the API server's words who refuses. Webhooks come first:
// what they say may contain anything.
var refusers = []struct {
	by, words string
	form      *regexp.Regexp // its group is the name
}{
	{"webhook_unavailable", "a webhook that cannot be called", regexp.MustCompile(`failed calling webhook "([^"]+)"`)},
	{"webhook", "a webhook", regexp.MustCompile(`admission webhook "([^"]+)" denied`)},
	{"admission_policy", "an admission policy", regexp.MustCompile(`(?i:policy) ['"]([^'"]+)['"] (?:with binding ['"][^'"]+['"] )?denied request`)},
	{"namespace", "its namespace, which is being deleted", regexp.MustCompile(`new content in namespace (\S+) because it is being terminated`)},
	{"quota", "a quota", regexp.MustCompile(`(?:exceeded|failed) quota: ([^\s,:]+)`)},
	{"limit_range", "a limit range", regexp.MustCompile(`(?:m(?:in|ax)imum \S+ usage|max limit to request ratio) per (\w+) is`)},
	{"service_account", "its service account, which is not there", regexp.MustCompile(`error looking up service account (?:[^\s/]+/)?([^\s:]+)`)},
	{"pod_security", "pod security", regexp.MustCompile(`violates PodSecurity "([^"]+)"`)},
	{"priority_class", "its priority class, which is not there", regexp.MustCompile(`no PriorityClass with name (\S+) was found`)},
	{"validation", "the API's rules", regexp.MustCompile(`"[^"]*" is (invalid): `)},
}

func refusalOf(message string) refusal {
	for _, r := range refusers {
		if m := r.form.FindStringSubmatch(message); m != nil {
			name := m[1]
			switch r.by {
			case "limit_range", "validation": // the group is no name of an object
				name = ""
			}
			return refusal{r.by, r.words, name}
		}
	}
	return refusal{by: "unknown", words: "the API server"}
}
