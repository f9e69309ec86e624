package guard

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Wanted is spec.replicas, which defaults to 1.
func Wanted(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// progressDeadlineExceeded and newReplicaSetAvailable are reasons of the
// condition Progressing, which k8s.io/api does not name.
const (
	progressDeadlineExceeded = "ProgressDeadlineExceeded"
	newReplicaSetAvailable   = "NewReplicaSetAvailable"
)

// progressing is the Deployment's condition of that type; zero if it has none,
// as when spec.progressDeadlineSeconds is the largest number there is.
func progressing(d *appsv1.Deployment) appsv1.DeploymentCondition {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return c
		}
	}
	return appsv1.DeploymentCondition{}
}

// Stalled reports whether the roll-out has missed its deadline.
func Stalled(d *appsv1.Deployment) bool {
	c := progressing(d)
	return c.Status == corev1.ConditionFalse && c.Reason == progressDeadlineExceeded
}

// RollingOut reports whether a roll-out is under way that may still succeed.
func RollingOut(d *appsv1.Deployment) bool {
	c := progressing(d)
	return c.Status == corev1.ConditionTrue && c.Reason != newReplicaSetAvailable
}

// SickDeployment reports whether the Deployment's roll-out has stalled or pods
// of it are missing, and what shows it.
func SickDeployment(d *appsv1.Deployment) (bool, string) {
	wanted := Wanted(d)
	if wanted == 0 {
		return false, "it is scaled to zero"
	}
	seen := fmt.Sprintf("%d of %d replicas are available, %d updated", d.Status.AvailableReplicas, wanted, d.Status.UpdatedReplicas)
	if Stalled(d) {
		return true, "Progressing is False: " + progressDeadlineExceeded + ", " + seen
	}
	return d.Status.AvailableReplicas < wanted, seen
}

// deploymentSymptom is that of every workload: the type of failure is the same.
func deploymentSymptom(f Facts) (bool, string) {
	switch {
	case f.Deployment != nil:
		sick, seen := SickDeployment(f.Deployment)
		if !sick && RollingOut(f.Deployment) && owns(f.Deployment, f.Failing) {
			// The pods of the revision before keep it whole, while those of the next fail.
			ill, shows := SickPod(f.Failing)
			return ill, seen + "; of the revision that is rolled out " + f.Failing.Name + ": " + shows
		}
		return sick, seen
	case f.StatefulSet != nil:
		return SickStatefulSet(f.StatefulSet)
	case f.DaemonSet != nil:
		return SickDaemonSet(f.DaemonSet)
	}
	return false, "it is no workload that is known here"
}

// owns reports whether the pod is there, and one that the Deployment selects.
func owns(d *appsv1.Deployment, p *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	return err == nil && p != nil && p.Namespace == d.Namespace && !selector.Empty() && selector.Matches(labels.Set(p.Labels))
}

// A Writer is a field manager, and when it last wrote.
type Writer struct {
	Name string
	At   time.Time
}

// TemplateWriters are who wrote parts of a workload's pod template, the latest
// first. It is the API server's own record, as with CordonManagers.
func TemplateWriters(o metav1.ObjectMeta) []Writer {
	var writers []Writer
	for _, entry := range o.ManagedFields {
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if entry.FieldsV1 == nil || entry.Subresource != "" || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, ok := fields.Spec["f:template"]; !ok {
			continue
		}
		w := Writer{Name: heal.Clean(entry.Manager, 64)}
		if entry.Time != nil {
			w.At = entry.Time.Time
		}
		writers = append(writers, w)
	}
	slices.SortStableFunc(writers, func(a, b Writer) int { return b.At.Compare(a.At) })
	return writers
}

// ManagedBy names who would put the object's template back, and what shows
// it; empty if nobody is known to.
func ManagedBy(o metav1.ObjectMeta) (who, seen string) {
	var fields []string
	for _, entry := range o.ManagedFields {
		fields = append(fields, entry.Manager)
	}
	return heal.ManagedBy(o.Labels, o.Annotations, fields)
}
