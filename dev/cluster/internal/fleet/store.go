package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// writers write at once: etcd commits many small writes together.
const writers = 64

// Connect returns a client of a cluster's etcd.
func Connect(port int) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   []string{fmt.Sprintf("http://127.0.0.1:%d", port)},
		DialTimeout: 10 * time.Second,
	})
}

// storage encodes and decodes as the API server does: "k8s\0", then protobuf with the object's kind.
var storage = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)

func encode(o runtime.Object) ([]byte, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	var b bytes.Buffer
	if err := storage.Encode(o, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Load writes a fleet, over what has the same names, and returns how many objects it has.
func Load(ctx context.Context, etcd *clientv3.Client, s Size) (int, error) {
	if err := s.Validate(); err != nil {
		return 0, err
	}
	now := metav1.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	n := 0
	for o := range objects(s, now) {
		if ctx.Err() != nil {
			break
		}
		n++
		g.Go(func() error {
			value, err := encode(o.object)
			if err != nil {
				return fmt.Errorf("encode %s: %w", o.key, err)
			}
			if _, err := etcd.Put(ctx, o.key, string(value)); err != nil {
				return fmt.Errorf("write %s: %w", o.key, err)
			}
			return nil
		})
	}
	return n, g.Wait()
}

// A Storm is when pods were made to fail.
type Storm struct {
	Pods        int
	First, Last time.Time // the moments before the first status was stored and after the last one was
}

// Break makes n pods of a fleet fail, as fast as etcd takes their statuses: the name of an image of theirs has become
// invalid, which kubelets report so and which is wrong at once, without anything that has to last.
func Break(ctx context.Context, etcd *clientv3.Client, s Size, n int) (Storm, error) {
	keys := podKeys(s, n)
	if len(keys) < n {
		return Storm{}, fmt.Errorf("%d pods cannot fail, there are %d", n, len(keys))
	}
	now := metav1.Now()
	broken := make([]string, n)
	storm := Storm{Pods: n}
	for i, key := range keys {
		value, err := read(ctx, etcd, key)
		if err != nil {
			return storm, err
		}
		pod, err := decodePod(value)
		if err != nil {
			return storm, fmt.Errorf("decode %s: %w", key, err)
		}
		invalidate(pod, now)
		b, err := encode(pod)
		if err != nil {
			return storm, fmt.Errorf("encode %s: %w", key, err)
		}
		broken[i] = string(b)
	}
	storm.First = time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i, key := range keys {
		g.Go(func() error {
			_, err := etcd.Put(ctx, key, broken[i])
			return err
		})
	}
	err := g.Wait()
	storm.Last = time.Now()
	return storm, err
}

var errAbsent = errors.New("is not there: has the cluster been loaded with this size?")

func read(ctx context.Context, etcd *clientv3.Client, key string) ([]byte, error) {
	r, err := etcd.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(r.Kvs) == 0 {
		return nil, fmt.Errorf("%s %w", key, errAbsent)
	}
	return r.Kvs[0].Value, nil
}

func decodePod(value []byte) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	_, _, err := storage.Decode(value, nil, pod)
	return pod, err
}

// invalidate is what a kubelet writes when a container's image was changed to a name that is none.
func invalidate(pod *corev1.Pod, now metav1.Time) {
	if len(pod.Status.ContainerStatuses) > 0 {
		c := &pod.Status.ContainerStatuses[0]
		c.Ready = false
		c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason:  "InvalidImageName",
			Message: `Failed to apply default image tag ":none": couldn't parse image name ":none": invalid reference format`,
		}}
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ContainersNotReady", "containers with unready status: [server]"
			c.LastTransitionTime = now
		}
	}
}
