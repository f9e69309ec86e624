package watch

import (
	"context"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// The labels by which Kubernetes' controllers say what template a pod was made of.
const (
	templateHash    = appsv1.DefaultDeploymentUniqueLabelKey
	revisionHash    = appsv1.ControllerRevisionHashLabelKey
	generationLabel = "pod-template-generation" // of a daemon set
)

// What a failure of a pod says in its metadata of the template that the pod was
// made of, and of its owner's roll-out, so that it can be told whether the pod
// fails for what it is or for where it is. Counts are of pods.
const (
	metaTemplateHash = "pod_template_hash"        // of a ReplicaSet's pod
	metaRevisionHash = "controller_revision_hash" // of a StatefulSet's or DaemonSet's
	metaRevision     = "revision"                 // that the pod is of
	metaNewest       = "newest_revision"          // to which its owner brings all pods; neither is told if it does not do so by itself
	metaAvailable    = "workload_available"       // that serve, of whatever revision
	metaUpdated      = "workload_updated"         // of the newest revision, whether they serve or not
)

// tellTemplate adds to what is found in a pod what it was made of.
func tellTemplate(sightings []episode.Sighting, pod *corev1.Pod) {
	c := metav1.GetControllerOfNoCopy(pod)
	if c == nil {
		return
	}
	for i := range sightings {
		m := sightings[i].Failure.Metadata
		if m == nil {
			continue
		}
		switch c.Kind {
		case "ReplicaSet":
			tell(m, metaTemplateHash, pod.Labels[templateHash])
		case statefulSets.Kind:
			tell(m, metaRevisionHash, pod.Labels[revisionHash])
			tell(m, metaRevision, pod.Labels[revisionHash])
		case daemonSets.Kind:
			tell(m, metaRevisionHash, pod.Labels[revisionHash])
			tell(m, metaRevision, pod.Labels[generationLabel])
		}
	}
}

func tell(metadata map[string]string, key, value string) {
	if value != "" {
		metadata[key] = value
	}
}

// revised is a failure of a pod that direct controls, with where the roll-out
// of its owner stands.
func (w *Watcher) revised(ctx context.Context, f heal.Failure, direct heal.Target) heal.Failure {
	if f.Target.Kind != pods.Kind || f.Target.APIVersion != pods.Version {
		return f
	}
	is, known := w.standing(f.Owner)
	m := maps.Clone(f.Metadata)
	if m == nil {
		m = map[string]string{}
	}
	f.Metadata = m
	if known && direct != f.Owner && f.Owner.Kind == deployments.Kind {
		tell(m, metaRevision, w.owners.revision(ctx, direct, is.revision))
	}
	if !known || is.revision == "" || m[metaRevision] == "" {
		delete(m, metaRevision) // which says nothing alone
		return f
	}
	m[metaNewest] = newer(m[metaRevision], is.revision)
	m[metaAvailable] = strconv.Itoa(int(is.available))
	m[metaUpdated] = strconv.Itoa(int(is.updated))
	return f
}

// newer is the higher of two revisions, if they are numbers: a ReplicaSet may
// have been asked for after a roll-out of which its Deployment has not told us
// yet. Of others it is the owner's.
func newer(pods, owners string) string {
	p, errP := strconv.ParseInt(pods, 10, 64)
	o, errO := strconv.ParseInt(owners, 10, 64)
	if errP == nil && errO == nil && p > o {
		return pods
	}
	return owners
}

// standing is where a workload stands; false if it is none that we watch.
func (w *Watcher) standing(owner heal.Target) (standing, bool) {
	s := w.sources[owner.APIVersion+"/"+owner.Kind]
	if s == nil || s.view.standing == nil {
		return standing{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return s.view.standing(owner.UID)
}
