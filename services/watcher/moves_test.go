package watcher_test

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A move is what people and their tools do every day, and what leads to no
// failure. A round of it waits for what it leads to.
type move struct {
	name  string
	round func(c *churn, ctx context.Context, round int) error
}

var moves = []move{
	{"deployments scaled up, down and to zero", (*churn).scale},
	{"roll-outs of good images", (*churn).rollOut},
	{"roll-outs that stop everything first", (*churn).recreate},
	{"roll-outs that are taken back half-way", (*churn).rollBack},
	{"roll-outs overtaken by the next", (*churn).overtake},
	{"deployments paused, changed and resumed", (*churn).pause},
	{"deployments deleted and made anew", (*churn).makeAnew},
	{"pods that need a while until they count", (*churn).slowStart},
	{"pods that come up at the second attempt", (*churn).secondAttempt},
	{"pods of a deployment deleted by hand", (*churn).deletePods},
	{"stateful sets scaled", (*churn).scaleStateful},
	{"stateful sets rolled out", (*churn).rollStateful},
	{"stateful sets rolled out in parts", (*churn).rollPartition},
	{"stateful sets whose pods people replace", (*churn).rollOnDelete},
	{"daemon sets rolled out", (*churn).rollDaemons},
	{"daemon sets sent to other nodes", (*churn).moveDaemons},
	{"jobs that end", (*churn).runJob},
	{"jobs suspended and resumed", (*churn).suspendJob},
	{"jobs that keep their deadline", (*churn).deadlineJob},
	{"cron jobs that run every minute", (*churn).runCronJob},
	{"cron jobs suspended for a while", (*churn).suspendCronJob},
	{"cron jobs whose run outlasts their period", (*churn).longCronJob},
	{"autoscalers that scale", (*churn).autoscale},
	{"roll-outs at the edge of a quota", (*churn).nearQuota},
	{"claims that wait for their first consumer", (*churn).claimLater},
	{"disruption budgets that hold up a drain for a while", (*churn).holdUp},
	{"nodes drained", (*churn).drainOne},
	{"nodes taken away by an autoscaler", (*churn).replaceNode},
	{"nodes replaced by people", (*churn).exchangeNode},
	{"nodes rebooted on purpose", (*churn).rebootNode},
	{"nodes silent for a moment", (*churn).hiccup},
	{"nodes emptied by a taint", (*churn).taintNode},
	{"pods that give way to more important ones", (*churn).preempt},
	{"pods held back by a gate", (*churn).gate},
	{"pods deleted while they start", (*churn).deleteStarting},
	{"pods that wait for their configuration", (*churn).configureLater},
	{"pods changed in place, and pods that are done", (*churn).changePod},
	{"services that come before their pods", (*churn).serveLater},
	{"services switched from blue to green", (*churn).switchService},
	{"services of what rests", (*churn).restService},
	{"services that lead nowhere on purpose", (*churn).oddServices},
	{"load balancers that come a little later", (*churn).balanceLater},
	{"webhooks set up, rolled out and removed", (*churn).hook},
	{"namespaces deleted with what is in them", (*churn).deleteNamespace},
	{"parts of the control plane started anew", (*churn).restartPart},
}

// restAfter is how long a move rests between rounds: this is a busy cluster,
// not one under attack.
const restAfter = 10 * time.Second

// linger waits for so long, or until the churn is to end.
func (c *churn) linger(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(min(d, max(time.Until(c.until), time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// upTo asks until check returns nil, or the churn is to end: what has not come
// by then is not waited for.
func (c *churn) upTo(ctx context.Context, check func() error) error {
	if check() == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, c.until)
	defer cancel()
	if err := wait(ctx, check); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// namespace makes a namespace in which pods can be created.
func (c *churn) namespace(ctx context.Context, name string) error {
	_, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if ignoreExists(err) != nil {
		return err
	}
	return wait(ctx, func() error {
		_, err := c.kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// in is the same churn in another namespace.
func (c *churn) in(namespace string) *churn {
	other := *c
	other.ns = namespace
	return &other
}

// patch changes what is at a path of the API.
func (c *churn) patch(ctx context.Context, path, patch string) error {
	return c.kube.CoreV1().RESTClient().Patch(types.MergePatchType).AbsPath(path).Body([]byte(patch)).Do(ctx).Error()
}

// remove deletes what is at a path of the API, with what depends on it.
func (c *churn) remove(ctx context.Context, path string) error {
	background := metav1.DeletePropagationBackground
	err := c.kube.CoreV1().RESTClient().Delete().AbsPath(path).Body(&metav1.DeleteOptions{PropagationPolicy: &background}).Do(ctx).Error()
	return ignoreGone(err)
}

func (c *churn) apps(resource, name string) string {
	return fmt.Sprintf("/apis/apps/v1/namespaces/%s/%s/%s", c.ns, resource, name)
}

func (c *churn) core(resource, name string) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/%s/%s", c.ns, resource, name)
}

// imaged is a patch of a template's only container.
func imaged(image string) string {
	return fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, image)
}

func unlessExists[T any](_ T, err error) error { return ignoreExists(err) }

// gone reports that something is still there.
func stillThere[T any](_ T, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("it is still there")
}
