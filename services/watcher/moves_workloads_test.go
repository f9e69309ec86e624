package watcher_test

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (c *churn) scale(ctx context.Context, round int) error {
	if err := c.deploy(ctx, "scaled", 3); err != nil {
		return err
	}
	for _, replicas := range []int{5, 0, 1, 3} {
		if err := c.patchDeployment(ctx, "scaled", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)); err != nil {
			return err
		}
		if err := c.complete(ctx, "scaled"); err != nil {
			return err
		}
	}
	return nil
}

func (c *churn) rollOut(ctx context.Context, round int) error {
	if err := c.deploy(ctx, "rolled", 3); err != nil {
		return err
	}
	return c.rollTo(ctx, "rolled", fmt.Sprint("shop/api:v", round))
}

func (c *churn) rollTo(ctx context.Context, name, image string) error {
	if err := c.patchDeployment(ctx, name, imaged(image)); err != nil {
		return err
	}
	return c.complete(ctx, name)
}

func (c *churn) recreate(ctx context.Context, round int) error {
	err := c.deployAs(ctx, "recreated", 3, func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType })
	if err != nil {
		return err
	}
	return c.rollTo(ctx, "recreated", fmt.Sprint("shop/api:v", round))
}

func (c *churn) rollBack(ctx context.Context, round int) error {
	const before = "shop/api:good"
	if err := c.deploy(ctx, "undone", 4); err != nil {
		return err
	}
	if err := c.patchDeployment(ctx, "undone", imaged(fmt.Sprint("shop/api:v", round))); err != nil {
		return err
	}
	err := wait(ctx, func() error {
		d, err := c.kube.AppsV1().Deployments(c.ns).Get(ctx, "undone", metav1.GetOptions{})
		if err == nil && d.Status.UpdatedReplicas == 0 {
			err = fmt.Errorf("the roll-out has not begun")
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.rollTo(ctx, "undone", before)
}

func (c *churn) overtake(ctx context.Context, round int) error {
	if err := c.deploy(ctx, "hurried", 3); err != nil {
		return err
	}
	for i := range 3 {
		if err := c.patchDeployment(ctx, "hurried", imaged(fmt.Sprintf("shop/api:v%d-%d", round, i))); err != nil {
			return err
		}
	}
	return c.complete(ctx, "hurried")
}

func (c *churn) pause(ctx context.Context, round int) error {
	if err := c.deploy(ctx, "paused", 2); err != nil {
		return err
	}
	if err := c.patchDeployment(ctx, "paused", `{"spec":{"paused":true}}`); err != nil {
		return err
	}
	if err := c.patchDeployment(ctx, "paused", imaged(fmt.Sprint("shop/api:v", round))); err != nil {
		return err
	}
	if err := c.patchDeployment(ctx, "paused", fmt.Sprintf(`{"spec":{"replicas":%d}}`, 2+round%3)); err != nil {
		return err
	}
	c.linger(ctx, 30*time.Second)
	if err := c.patchDeployment(ctx, "paused", `{"spec":{"paused":false}}`); err != nil {
		return err
	}
	return c.complete(ctx, "paused")
}

func (c *churn) makeAnew(ctx context.Context, _ int) error {
	if err := c.deploy(ctx, "anew", 3); err != nil {
		return err
	}
	return c.remove(ctx, c.apps("deployments", "anew"))
}

func (c *churn) slowStart(ctx context.Context, round int) error {
	err := c.deployAs(ctx, "slow", 2, func(d *appsv1.Deployment) {
		all := intstr.FromString("100%")
		d.Spec.MinReadySeconds = 2
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &all}
	})
	if err != nil {
		return err
	}
	return c.rollTo(ctx, "slow", fmt.Sprint("shop/api:v", round))
}

func (c *churn) secondAttempt(ctx context.Context, round int) error {
	err := c.deployAs(ctx, "hesitant", 3, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "shop/api:crash-times-1"
	})
	if err != nil {
		return err
	}
	restarted := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"round %d"}}}}}`, round)
	if err := c.patchDeployment(ctx, "hesitant", restarted); err != nil {
		return err
	}
	return c.complete(ctx, "hesitant")
}

func (c *churn) deletePods(ctx context.Context, _ int) error {
	if err := c.deploy(ctx, "culled", 3); err != nil {
		return err
	}
	pods, err := c.kube.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=culled"})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if err := c.remove(ctx, c.core("pods", p.Name)); err != nil {
			return err
		}
	}
	return c.complete(ctx, "culled")
}

// stateful makes a stateful set of three, unless it is there.
func (c *churn) stateful(ctx context.Context, name string, edit ...func(*appsv1.StatefulSet)) error {
	three := int32(3)
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.StatefulSetSpec{Replicas: &three, Selector: selectorOf(name), Template: templateOf(name, "shop/db:good")},
	}
	for _, change := range edit {
		change(s)
	}
	if err := unlessExists(c.kube.AppsV1().StatefulSets(c.ns).Create(ctx, s, metav1.CreateOptions{})); err != nil {
		return err
	}
	return c.settled(ctx, name, func(s *appsv1.StatefulSet) bool { return s.Status.ReadyReplicas == 3 })
}

// settled waits until the controller has seen the stateful set as it is, and
// is is true of it.
func (c *churn) settled(ctx context.Context, name string, is func(*appsv1.StatefulSet) bool) error {
	return wait(ctx, func() error {
		s, err := c.kube.AppsV1().StatefulSets(c.ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil && (s.Status.ObservedGeneration < s.Generation || !is(s)) {
			err = fmt.Errorf("stateful set %s has not come so far: %+v", name, s.Status)
		}
		return err
	})
}

func updated(s *appsv1.StatefulSet) bool {
	return s.Status.UpdatedReplicas == *s.Spec.Replicas && s.Status.ReadyReplicas == *s.Spec.Replicas
}

func (c *churn) patchStateful(ctx context.Context, name, patch string) error {
	_, err := c.kube.AppsV1().StatefulSets(c.ns).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func (c *churn) scaleStateful(ctx context.Context, _ int) error {
	if err := c.stateful(ctx, "db-scaled"); err != nil {
		return err
	}
	for _, replicas := range []int32{4, 0, 3} {
		if err := c.patchStateful(ctx, "db-scaled", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)); err != nil {
			return err
		}
		err := c.settled(ctx, "db-scaled", func(s *appsv1.StatefulSet) bool {
			return s.Status.Replicas == replicas && s.Status.ReadyReplicas == replicas
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *churn) rollStateful(ctx context.Context, round int) error {
	if err := c.stateful(ctx, "db-rolled"); err != nil {
		return err
	}
	if err := c.patchStateful(ctx, "db-rolled", imaged(fmt.Sprint("shop/db:v", round))); err != nil {
		return err
	}
	return c.settled(ctx, "db-rolled", updated)
}

func (c *churn) rollPartition(ctx context.Context, round int) error {
	if err := c.stateful(ctx, "db-parts"); err != nil {
		return err
	}
	for i, partition := range []int{2, 0} {
		patch := fmt.Sprintf(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":%d}}}}`, partition)
		if err := c.patchStateful(ctx, "db-parts", patch); err != nil {
			return err
		}
		if i == 0 {
			if err := c.patchStateful(ctx, "db-parts", imaged(fmt.Sprint("shop/db:v", round))); err != nil {
				return err
			}
		}
		want := int32(3 - partition)
		err := c.settled(ctx, "db-parts", func(s *appsv1.StatefulSet) bool {
			return s.Status.UpdatedReplicas >= want && s.Status.ReadyReplicas == 3
		})
		if err != nil {
			return err
		}
		if partition > 0 {
			c.linger(ctx, 2*time.Minute)
		}
	}
	return nil
}

func (c *churn) rollOnDelete(ctx context.Context, round int) error {
	err := c.stateful(ctx, "db-by-hand", func(s *appsv1.StatefulSet) {
		s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
	})
	if err != nil {
		return err
	}
	if err := c.patchStateful(ctx, "db-by-hand", imaged(fmt.Sprint("shop/db:v", round))); err != nil {
		return err
	}
	c.linger(ctx, time.Minute)
	for i := range 3 {
		if err := c.remove(ctx, c.core("pods", fmt.Sprint("db-by-hand-", i))); err != nil {
			return err
		}
		err := c.settled(ctx, "db-by-hand", func(s *appsv1.StatefulSet) bool {
			return int(s.Status.UpdatedReplicas) > i && s.Status.ReadyReplicas == 3
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// daemons makes a daemon set for all nodes, unless it is there.
func (c *churn) daemons(ctx context.Context, name string) error {
	half := intstr.FromString("50%")
	return unlessExists(c.kube.AppsV1().DaemonSets(c.ns).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DaemonSetSpec{
			Selector: selectorOf(name), Template: templateOf(name, "shop/agent:good"),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &half},
			},
		},
	}, metav1.CreateOptions{}))
}

func (c *churn) patchDaemons(ctx context.Context, name, patch string, is func(appsv1.DaemonSetStatus) bool) error {
	sets := c.kube.AppsV1().DaemonSets(c.ns)
	_, err := sets.Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	return wait(ctx, func() error {
		d, err := sets.Get(ctx, name, metav1.GetOptions{})
		if err == nil && (d.Status.ObservedGeneration < d.Generation || !is(d.Status)) {
			err = fmt.Errorf("daemon set %s has not come so far: %+v", name, d.Status)
		}
		return err
	})
}

// rollDaemons waits for as many new pods as there are nodes that stay.
func (c *churn) rollDaemons(ctx context.Context, round int) error {
	if err := c.daemons(ctx, "agent"); err != nil {
		return err
	}
	return c.patchDaemons(ctx, "agent", imaged(fmt.Sprint("shop/agent:v", round)), func(s appsv1.DaemonSetStatus) bool {
		return s.UpdatedNumberScheduled >= churnNodes && s.NumberAvailable >= churnNodes
	})
}

func (c *churn) moveDaemons(ctx context.Context, _ int) error {
	if err := c.daemons(ctx, "collector"); err != nil {
		return err
	}
	nowhere := `{"spec":{"template":{"spec":{"nodeSelector":{"pool":"none"}}}}}`
	err := c.patchDaemons(ctx, "collector", nowhere, func(s appsv1.DaemonSetStatus) bool { return s.DesiredNumberScheduled == 0 })
	if err != nil {
		return err
	}
	everywhere := `{"spec":{"template":{"spec":{"nodeSelector":null}}}}`
	return c.patchDaemons(ctx, "collector", everywhere, func(s appsv1.DaemonSetStatus) bool { return s.NumberAvailable >= churnNodes })
}

func (c *churn) job(ctx context.Context, name, image string, edit func(*batchv1.JobSpec)) error {
	template := templateOf(name, image)
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{Template: template}}
	edit(&j.Spec)
	_, err := c.kube.BatchV1().Jobs(c.ns).Create(ctx, j, metav1.CreateOptions{})
	return err
}

func (c *churn) jobIs(ctx context.Context, name string, is func(batchv1.JobStatus) bool) error {
	return wait(ctx, func() error {
		j, err := c.kube.BatchV1().Jobs(c.ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil && !is(j.Status) {
			err = fmt.Errorf("job %s has not come so far: %+v", name, j.Status)
		}
		return err
	})
}

func (c *churn) batch(resource, name string) string {
	return fmt.Sprintf("/apis/batch/v1/namespaces/%s/%s/%s", c.ns, resource, name)
}

func (c *churn) runJob(ctx context.Context, round int) error {
	name, three := fmt.Sprint("job-", round), int32(3)
	err := c.job(ctx, name, "complete", func(s *batchv1.JobSpec) {
		s.Completions, s.Parallelism = &three, &three
		s.Template.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "good"}}
	})
	if err != nil {
		return err
	}
	if err := c.jobIs(ctx, name, func(s batchv1.JobStatus) bool { return s.Succeeded == 3 }); err != nil {
		return err
	}
	return c.remove(ctx, c.batch("jobs", name))
}

func (c *churn) suspendJob(ctx context.Context, round int) error {
	name, two, yes := fmt.Sprint("interrupted-", round), int32(2), true
	err := c.job(ctx, name, "good", func(s *batchv1.JobSpec) { s.Completions, s.Parallelism, s.Suspend = &two, &two, &yes })
	if err != nil {
		return err
	}
	for i, suspend := range []bool{false, true, false} {
		if err := c.patch(ctx, c.batch("jobs", name), fmt.Sprintf(`{"spec":{"suspend":%v}}`, suspend)); err != nil {
			return err
		}
		active := int32(2)
		if suspend {
			active = 0
		}
		if err := c.jobIs(ctx, name, func(s batchv1.JobStatus) bool { return s.Active == active }); err != nil {
			return err
		}
		if i == 1 {
			c.linger(ctx, 30*time.Second)
		}
	}
	return c.remove(ctx, c.batch("jobs", name))
}

// deadlineJob runs a job that would fail, had it not ended in time, and that
// takes itself away.
func (c *churn) deadlineJob(ctx context.Context, round int) error {
	name, deadline, ttl, indexed, two := fmt.Sprint("timed-", round), int64(600), int32(1), batchv1.IndexedCompletion, int32(2)
	err := c.job(ctx, name, "complete", func(s *batchv1.JobSpec) {
		s.ActiveDeadlineSeconds, s.TTLSecondsAfterFinished, s.CompletionMode, s.Completions, s.Parallelism = &deadline, &ttl, &indexed, &two, &two
	})
	if err != nil {
		return err
	}
	return wait(ctx, func() error {
		return stillThere(c.kube.BatchV1().Jobs(c.ns).Get(ctx, name, metav1.GetOptions{}))
	})
}

func (c *churn) cron(ctx context.Context, name, image string, edit func(*batchv1.CronJobSpec)) error {
	template := templateOf(name, image)
	template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	j := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent,
		JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}},
	}}
	edit(&j.Spec)
	_, err := c.kube.BatchV1().CronJobs(c.ns).Create(ctx, j, metav1.CreateOptions{})
	return err
}

// ran reports that a cron job has not run after a time.
func (c *churn) ran(ctx context.Context, name string, after time.Time) func() error {
	return func() error {
		j, err := c.kube.BatchV1().CronJobs(c.ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil && (j.Status.LastSuccessfulTime == nil || j.Status.LastSuccessfulTime.Time.Before(after)) {
			err = fmt.Errorf("cron job %s has not run", name)
		}
		return err
	}
}

// runCronJob lets a cron job run once, while its turns may overlap with a
// drain, and takes it away with what it made.
func (c *churn) runCronJob(ctx context.Context, round int) error {
	name := fmt.Sprint("cron-", round)
	if err := c.cron(ctx, name, "complete", func(*batchv1.CronJobSpec) {}); err != nil {
		return err
	}
	if err := c.upTo(ctx, c.ran(ctx, name, time.Time{})); err != nil {
		return err
	}
	return c.remove(ctx, c.batch("cronjobs", name))
}

// suspendCronJob suspends a cron job for longer than it may miss its turns.
func (c *churn) suspendCronJob(ctx context.Context, round int) error {
	name, yes := fmt.Sprint("resting-", round), true
	if err := c.cron(ctx, name, "complete", func(s *batchv1.CronJobSpec) { s.Suspend = &yes }); err != nil {
		return err
	}
	c.linger(ctx, 4*time.Minute)
	resumed := time.Now()
	if err := c.patch(ctx, c.batch("cronjobs", name), `{"spec":{"suspend":false}}`); err != nil {
		return err
	}
	if err := c.upTo(ctx, c.ran(ctx, name, resumed)); err != nil {
		return err
	}
	return c.remove(ctx, c.batch("cronjobs", name))
}

// longCronJob has a run that forbids the next ones, or is replaced by them.
func (c *churn) longCronJob(ctx context.Context, round int) error {
	name := fmt.Sprint("long-", round)
	err := c.cron(ctx, name, "good", func(s *batchv1.CronJobSpec) {
		if round%2 == 1 {
			s.ConcurrencyPolicy = batchv1.ReplaceConcurrent
		}
	})
	if err != nil {
		return err
	}
	c.linger(ctx, 5*time.Minute)
	return c.remove(ctx, c.batch("cronjobs", name))
}
