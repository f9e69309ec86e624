package live

import (
	"context"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A foreseen is what owners a pod most likely has, read while the pod itself is:
// one after another, they would take three times as long. An owner counts only
// if the pod, or another owner, then names it with its UID.
type foreseen struct {
	cancel func()
	all    sync.WaitGroup

	mu  sync.Mutex // guards got
	got []guard.Owner
}

// foresee begins to read the owner that the failure names, and what is between
// it and the pod.
func (r Reader) foresee(ctx context.Context, pod, owner heal.Target) *foreseen {
	if owner.Name == "" || owner.Namespace != pod.Namespace {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &foreseen{cancel: cancel}
	refs := []metav1.OwnerReference{{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: uid(owner.UID)}}
	if end := strings.LastIndexByte(pod.Name, '-'); owner.Kind == "Deployment" && end > len(owner.Name) {
		// A ReplicaSet names its pods by itself, a dash and five letters.
		refs = append(refs, metav1.OwnerReference{APIVersion: owner.APIVersion, Kind: "ReplicaSet", Name: pod.Name[:end]})
	}
	for _, ref := range refs {
		f.all.Go(func() {
			o, _, err := r.owner(ctx, pod.Namespace, ref)
			if err != nil || o.Name == "" {
				return // who needs it reads it again, and learns why
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.got = append(f.got, o)
		})
	}
	return f
}

// owner is the owner that ref names, if it was foreseen.
func (f *foreseen) owner(ref metav1.OwnerReference) (guard.Owner, bool) {
	if f == nil {
		return guard.Owner{}, false
	}
	f.all.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.got {
		if o.UID == ref.UID && o.Name == ref.Name && o.Kind == ref.Kind && o.APIVersion == ref.APIVersion {
			return o, true
		}
	}
	return guard.Owner{}, false
}

// stop ends the reading, and waits for that.
func (f *foreseen) stop() {
	if f != nil {
		f.cancel()
		f.all.Wait()
	}
}
