package watcher_test

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func (c *churn) gate(ctx context.Context, round int) error {
	name := fmt.Sprint("gated-", round)
	p := churnPod(name, "good", nil)
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	c.linger(ctx, time.Duration(round%3)*3*time.Minute) // at times for longer than a pod may wait for a node
	if err := c.patch(ctx, c.core("pods", name), `{"spec":{"schedulingGates":null}}`); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return ignoreGone(c.runs(ctx, name)) }); err != nil {
		return err
	}
	return c.remove(ctx, c.core("pods", name))
}

// deleteStarting deletes pods before they have a node, while they are made,
// and while they wait for an image.
func (c *churn) deleteStarting(ctx context.Context, round int) error {
	for i, image := range []string{"good", "stuck-creating", "missing"} {
		name := fmt.Sprintf("early-%d-%d", round, i)
		if err := c.createPod(ctx, name, image, nil); err != nil {
			return err
		}
		if i > 0 {
			c.linger(ctx, restAfter)
		}
		if err := c.remove(ctx, c.core("pods", name)); err != nil {
			return err
		}
	}
	return nil
}

// configureLater makes what pods need after the pods, as tools that care for
// no order do.
func (c *churn) configureLater(ctx context.Context, round int) error {
	name := fmt.Sprint("configured-", round)
	d := newDeployment(name, 2)
	d.Spec.Template.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
	}
	if _, err := c.kube.AppsV1().Deployments(c.ns).Create(ctx, d, metav1.CreateOptions{}); err != nil {
		return err
	}
	c.linger(ctx, 10*time.Second)
	_, err := c.kube.CoreV1().ConfigMaps(c.ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := c.complete(ctx, name); err != nil {
		return err
	}
	if err := c.remove(ctx, c.core("configmaps", name)); err != nil { // running pods do not need it any more
		return err
	}
	return c.remove(ctx, c.apps("deployments", name))
}

// changePod changes a pod's image in place, which restarts its container, and
// lets another pod end.
func (c *churn) changePod(ctx context.Context, round int) error {
	changed, done := fmt.Sprint("changed-", round), fmt.Sprint("done-", round)
	if err := c.createPod(ctx, changed, "shop/api:good", nil); err != nil {
		return err
	}
	p := churnPod(done, "complete", nil)
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return ignoreGone(c.runs(ctx, changed)) }); err != nil {
		return err
	}
	next := []byte(`{"spec":{"containers":[{"name":"app","image":"shop/api:next"}]}}`)
	_, err := c.kube.CoreV1().Pods(c.ns).Patch(ctx, changed, types.StrategicMergePatchType, next, metav1.PatchOptions{})
	if ignoreGone(err) != nil {
		return err
	}
	c.linger(ctx, 20*time.Second)
	for _, name := range []string{changed, done} {
		if err := c.remove(ctx, c.core("pods", name)); err != nil {
			return err
		}
	}
	return nil
}

// claimLater has a claim without a pod for all the time, and one that gets its
// volume when its pod gets its node.
func (c *churn) claimLater(ctx context.Context, round int) error {
	class, mode := "later", storagev1.VolumeBindingWaitForFirstConsumer
	err := unlessExists(c.kube.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &mode,
	}, metav1.CreateOptions{}))
	if err != nil {
		return err
	}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	once := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	name := fmt.Sprint("data-", round)
	for _, claim := range []string{"spare", name} {
		err := unlessExists(c.kube.CoreV1().PersistentVolumeClaims(c.ns).Create(ctx, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: claim},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: &class, AccessModes: once, Resources: corev1.VolumeResourceRequirements{Requests: size},
			},
		}, metav1.CreateOptions{}))
		if err != nil {
			return err
		}
	}
	_, err = c.kube.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: once, Capacity: size, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nfs.example.com", Path: "/" + name}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	p := churnPod(name, "good", nil)
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
	}}}
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return ignoreGone(c.runs(ctx, name)) }); err != nil {
		return err
	}
	for _, path := range []string{c.core("pods", name), c.core("persistentvolumeclaims", name)} {
		if err := c.remove(ctx, path); err != nil {
			return err
		}
	}
	c.linger(ctx, 10*time.Second) // released, and not failed
	return c.remove(ctx, "/api/v1/persistentvolumes/"+name)
}

// nearQuota rolls out where there is room for little more: one pod that is
// new, and one that is still going.
func (c *churn) nearQuota(ctx context.Context, round int) error {
	c = c.in("near-quota")
	if err := c.namespace(ctx, c.ns); err != nil {
		return err
	}
	err := unlessExists(c.kube.CoreV1().ResourceQuotas(c.ns).Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "team"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
			"pods": resource.MustParse("5"), "services.loadbalancers": resource.MustParse("0"),
		}},
	}, metav1.CreateOptions{}))
	if err != nil {
		return err
	}
	if err := c.deploy(ctx, "web", 3); err != nil {
		return err
	}
	return c.rollTo(ctx, "web", fmt.Sprint("shop/api:v", round))
}
