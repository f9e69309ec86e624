package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/harness"
)

var volumeFull = scenario{
	name:   "volume full",
	proves: "the claim asks for a quarter more, as its class and its owner allow, and it is done when the volume has grown. The kubelets are asked one after another within 15 min",
	long:   true,
	play: func(s *stage) {
		host, ok := ownAddress()
		if !ok {
			s.Skip("the API server asks no kubelet on a loopback address, and this machine has no other")
		}
		const ten, more = 10 << 30, 13 << 30 // a quarter, in whole GiB
		s.adopt()
		size, used := atomic.Int64{}, int64(ten/100*98)
		size.Store(ten)
		s.kubelets(host, func() string {
			return fmt.Sprintf(`{"pods":[{"volume":[{"availableBytes":%d,"capacityBytes":%d,"pvcRef":{"name":"data","namespace":%q}}]}]}`, size.Load()-used, size.Load(), s.ns)
		})
		s.claim(resource.MustParse("10Gi"))
		s.breaks(func() error { return s.mount("data") })

		// What its driver does once the claim asks for more.
		harness.WaitFor(s.T, 18*time.Minute, "the claim to ask for more", func() error {
			c, err := s.kube.CoreV1().PersistentVolumeClaims(s.ns).Get(s.Context(), "data", metav1.GetOptions{})
			if err != nil {
				return err
			}
			asked := c.Spec.Resources.Requests[corev1.ResourceStorage]
			if asked.Value() <= ten {
				return fmt.Errorf("it asks for %s", asked.String())
			}
			if asked.Value() != more {
				s.Errorf("it asks for %s, want a quarter more", asked.String())
			}
			size.Store(asked.Value())
			c.Status.Capacity[corev1.ResourceStorage] = asked
			_, err = s.kube.CoreV1().PersistentVolumeClaims(s.ns).UpdateStatus(s.Context(), c, metav1.UpdateOptions{})
			return err
		})
		s.ends(2*time.Minute, end{heal.Resize, "PersistentVolumeClaim", heal.Succeeded, "Verified", []string{"patch persistentvolumeclaims"}})
		s.stays()
	},
}

// ownAddress is an address of this machine that is not a loopback one.
func ownAddress() (string, bool) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "", false
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String(), true
		}
	}
	return "", false
}

// adopt makes the nodes that are there from the beginning the scenario's own:
// those whose kubelets the watcher asks first.
func (s *stage) adopt() {
	s.Helper()
	for i := range workers {
		name := fmt.Sprintf("node-%d", i+1)
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"only":%q}}}`, s.ns)
		if _, err := s.kube.CoreV1().Nodes().Patch(s.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			s.Fatal(err)
		}
		s.nodes = append(s.nodes, name)
	}
}

// kubelets has those of the scenario's nodes answer what volumes are used, and
// those of all others that there are none.
func (s *stage) kubelets(host string, summary func() string) {
	s.Helper()
	serve := func(summary func() string) (port int) {
		l, err := new(net.ListenConfig).Listen(s.Context(), "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			s.Fatal(err)
		}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/stats/summary" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(summary())) // who asks notices
		}))
		_ = srv.Listener.Close() // ours instead
		srv.Listener = l
		srv.StartTLS()
		s.Cleanup(srv.Close)
		return l.Addr().(*net.TCPAddr).Port
	}
	used, unused := serve(summary), serve(func() string { return `{"pods":[]}` })
	nodes, err := s.kube.CoreV1().Nodes().List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	for _, n := range nodes.Items {
		port := unused
		if slices.Contains(s.nodes, n.Name) {
			port = used
		}
		patch := fmt.Appendf(nil, `{"status":{"addresses":[{"type":"InternalIP","address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`, host, port)
		_, err := s.kube.CoreV1().Nodes().Patch(s.Context(), n.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) { // another scenario's, that has ended
			s.Fatal(err)
		}
	}
}

// claim makes a claim named data whose volume many nodes may use at once, of a
// class that grows.
func (s *stage) claim(size resource.Quantity) {
	s.Helper()
	storage := corev1.ResourceList{corev1.ResourceStorage: size}
	many := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	allow := true
	_, err := s.kube.StorageV1().StorageClasses().Create(s.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: s.ns}, Provisioner: "shop.example/share", AllowVolumeExpansion: &allow,
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	_, err = s.kube.CoreV1().PersistentVolumes().Create(s.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: s.ns},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: storage, AccessModes: many, StorageClassName: s.ns, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "shop.example", VolumeHandle: s.ns}},
			ClaimRef:               &corev1.ObjectReference{Namespace: s.ns, Name: "data"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	_, err = s.kube.CoreV1().PersistentVolumeClaims(s.ns).Create(s.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Annotations: map[string]string{"selfheal.dev/max-volume": "20Gi"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: many, StorageClassName: &s.ns, VolumeName: s.ns, Resources: corev1.VolumeResourceRequirements{Requests: storage},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	harness.WaitFor(s.T, 40*time.Second, "the claim to be bound", func() error {
		c, err := s.kube.CoreV1().PersistentVolumeClaims(s.ns).Get(s.Context(), "data", metav1.GetOptions{})
		if err == nil && c.Status.Phase != corev1.ClaimBound {
			err = fmt.Errorf("it is %s", c.Status.Phase)
		}
		return err
	})
}

// mount makes a DaemonSet whose pods use a claim.
func (s *stage) mount(claim string) error {
	selector, pods := s.template("files", "shop/files:1")
	pods.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	_, err := s.kube.AppsV1().DaemonSets(s.ns).Create(s.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "files"}, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: pods},
	}, metav1.CreateOptions{})
	return err
}
