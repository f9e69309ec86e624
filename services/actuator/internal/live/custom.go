package live

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asJSON is the content of custom resources: they have no other.
const asJSON = "application/json"

// Custom reads what path names, of a kind that there is no type for, into v; it
// is not found if there is none of that name, or no such kind.
func (r Reader) Custom(ctx context.Context, path string, v any) (found bool, err error) {
	data, err := r.Kube.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", asJSON).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

// Version is the version in which the API server likes to tell of an API
// group; empty if it does not have it.
func (r Reader) Version(ctx context.Context, group string) (string, error) {
	var g metav1.APIGroup
	found, err := r.Custom(ctx, "/apis/"+group, &g)
	if !found || err != nil {
		return "", err
	}
	return g.PreferredVersion.Version, nil
}
