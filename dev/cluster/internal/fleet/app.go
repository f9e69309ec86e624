package fleet

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

const (
	formerRevision  = 1
	currentRevision = 2
)

var words = []string{
	"checkout", "catalog", "payments", "search", "inventory", "shipping", "accounts", "pricing", "reviews", "gateway",
	"billing", "orders", "returns", "loyalty", "media", "mailer", "reports", "sessions", "tracking", "webhooks",
}

// An app is one Deployment with all that belongs to it.
type app struct {
	name, namespace string
	first           int // index of its first pod in the fleet
	replicas        int
	nodes           int
	now             metav1.Time
}

func (s Size) app(i int, now metav1.Time) app {
	return app{
		name:      fmt.Sprintf("%s-%04d", words[i%len(words)], i),
		namespace: namespaceName(i % namespaces),
		first:     i * replicas,
		replicas:  min(replicas, s.Pods-i*replicas),
		nodes:     s.Nodes,
		now:       now,
	}
}

func (a app) labels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": a.name, "app.kubernetes.io/instance": a.name, "app.kubernetes.io/version": "2.14.3",
		"app.kubernetes.io/component": "server", "app.kubernetes.io/managed-by": "Helm", "team": a.namespace,
	}
}

func (a app) selector() map[string]string { return map[string]string{"app.kubernetes.io/name": a.name} }

func (a app) meta(key, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: a.namespace, UID: uidOf(key), CreationTimestamp: ago(a.now, created), Labels: a.labels(), Generation: 1}
}

func (a app) deployment() stored {
	key := "/registry/deployments/" + a.namespace + "/" + a.name
	d := &appsv1.Deployment{
		ObjectMeta: a.meta(key, a.name),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(a.replicas)), Selector: &metav1.LabelSelector{MatchLabels: a.selector()},
			Template: a.template(currentRevision),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: ptr.To(intstr.FromString("25%")), MaxUnavailable: ptr.To(intstr.FromString("25%")),
			}},
			RevisionHistoryLimit: ptr.To(int32(1)), ProgressDeadlineSeconds: ptr.To(int32(600)),
		},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 1, Replicas: int32(a.replicas), UpdatedReplicas: int32(a.replicas),
			ReadyReplicas: int32(a.replicas), AvailableReplicas: int32(a.replicas),
			Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable", Message: "Deployment has minimum availability.",
					LastUpdateTime: ago(a.now, started), LastTransitionTime: ago(a.now, started)},
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable",
					Message:        fmt.Sprintf("ReplicaSet %q has successfully progressed.", a.replicaSetName(currentRevision)),
					LastUpdateTime: ago(a.now, started), LastTransitionTime: ago(a.now, started)},
			},
		},
	}
	d.Annotations = map[string]string{"deployment.kubernetes.io/revision": strconv.Itoa(currentRevision)}
	d.ManagedFields = managed(a.now, "kube-controller-manager", "Update", "apps/v1", "status", deploymentFields)
	return stored{key, d}
}

func (a app) hash(revision int) string { return suffix(a.name+strconv.Itoa(revision), 10) }

func (a app) replicaSetName(revision int) string { return a.name + "-" + a.hash(revision) }

func (a app) replicaSetKey(revision int) string {
	return "/registry/replicasets/" + a.namespace + "/" + a.replicaSetName(revision)
}

func (a app) replicaSet(revision int) stored {
	key := a.replicaSetKey(revision)
	n := int32(0)
	if revision == currentRevision {
		n = int32(a.replicas)
	}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: a.meta(key, a.replicaSetName(revision)),
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To(n), Template: a.template(revision),
			Selector: &metav1.LabelSelector{MatchLabels: withHash(a.selector(), a.hash(revision))},
		},
		Status: appsv1.ReplicaSetStatus{ObservedGeneration: 1, Replicas: n, FullyLabeledReplicas: n, ReadyReplicas: n, AvailableReplicas: n},
	}
	rs.Labels = withHash(rs.Labels, a.hash(revision))
	rs.Annotations = map[string]string{"deployment.kubernetes.io/revision": strconv.Itoa(revision)}
	rs.OwnerReferences = controlledBy(appsv1.SchemeGroupVersion.WithKind("Deployment"), a.name, "/registry/deployments/"+a.namespace+"/"+a.name)
	return stored{key, rs}
}

func withHash(labels map[string]string, hash string) map[string]string {
	labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return labels
}

func controlledBy(kind schema.GroupVersionKind, name, key string) []metav1.OwnerReference {
	owner := &metav1.ObjectMeta{Name: name, UID: uidOf(key)}
	return []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)}
}

// service is headless: it needs no address of the cluster's range.
func (a app) service() stored {
	key := "/registry/services/specs/" + a.namespace + "/" + a.name
	return stored{key, &corev1.Service{
		ObjectMeta: a.meta(key, a.name),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
			Selector: a.selector(), SessionAffinity: corev1.ServiceAffinityNone,
			InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
			Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}}
}

func (a app) endpointSlice() stored {
	name := a.name + "-" + suffix(a.name+"slice", 5)
	key := "/registry/endpointslices/" + a.namespace + "/" + name
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  a.meta(key, name),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(8080))}},
	}
	slice.Labels[discoveryv1.LabelServiceName] = a.name
	slice.Labels[discoveryv1.LabelManagedBy] = "endpointslice-controller.k8s.io"
	slice.OwnerReferences = controlledBy(corev1.SchemeGroupVersion.WithKind("Service"), a.name, "/registry/services/specs/"+a.namespace+"/"+a.name)
	for j := range a.replicas {
		pod := a.podName(j)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{a.podIP(j)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(nodeName(a.node(j))), Zone: ptr.To(zoneOf(a.node(j))),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: a.namespace, Name: pod, UID: uidOf(podKey(a.namespace, pod))},
		})
	}
	return stored{key, slice}
}

// node is the index of the node of its pod j: one after the other, so that nodes are equally full.
func (a app) node(j int) int { return (a.first + j) % a.nodes }

func (a app) podIP(j int) string {
	n := a.first + j
	return fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)
}

func (a app) podName(j int) string {
	return a.replicaSetName(currentRevision) + "-" + suffix(a.name+"/"+strconv.Itoa(j), 5)
}

func podKey(namespace, name string) string { return "/registry/pods/" + namespace + "/" + name }

func (a app) pod(j int) stored {
	name := a.podName(j)
	key := podKey(a.namespace, name)
	template := a.template(currentRevision)
	p := &corev1.Pod{ObjectMeta: a.meta(key, name), Spec: template.Spec}
	p.GenerateName = a.replicaSetName(currentRevision) + "-"
	p.CreationTimestamp = ago(a.now, started)
	p.Labels = template.Labels
	p.Annotations = template.Annotations
	p.OwnerReferences = controlledBy(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), a.replicaSetName(currentRevision), a.replicaSetKey(currentRevision))
	p.ManagedFields = append(
		managed(p.CreationTimestamp, "kube-controller-manager", "Update", "v1", "", podFields),
		managed(p.CreationTimestamp, "kubelet", "Update", "v1", "status", podStatusFields)...)
	node := a.node(j)
	p.Spec.NodeName = nodeName(node)
	p.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(300))},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(300))},
	}
	began := ago(a.now, started-10*time.Second)
	p.Status = corev1.PodStatus{
		ObservedGeneration: 1, Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable,
		HostIP: nodeIP(node), HostIPs: []corev1.HostIP{{IP: nodeIP(node)}},
		PodIP: a.podIP(j), PodIPs: []corev1.PodIP{{IP: a.podIP(j)}}, StartTime: ptr.To(p.CreationTimestamp),
	}
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: t, Status: corev1.ConditionTrue, LastTransitionTime: began, ObservedGeneration: 1,
		})
	}
	for _, c := range p.Spec.Containers {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Ready: true, Started: ptr.To(true), Image: c.Image, ImageID: c.Image + "@" + imageDigest(c.Image),
			ContainerID: "containerd://" + hex(key+c.Name), Resources: &c.Resources, AllocatedResources: c.Resources.Requests,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}},
		})
	}
	return stored{key, p}
}

func (a app) template(revision int) corev1.PodTemplateSpec {
	version := fmt.Sprintf("2.14.%d", revision+1)
	resources := func(cpu, memory, limit string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)},
		}
	}
	probe := func(path string, period int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:   corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
			TimeoutSeconds: 2, PeriodSeconds: period, SuccessThreshold: 1, FailureThreshold: 3,
		}
	}
	env := []corev1.EnvVar{
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		{Name: "DATABASE_PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: a.name + "-database"}, Key: "password"}}},
	}
	for _, v := range [][2]string{
		{"DATABASE_HOST", a.name + "-db." + a.namespace + ".svc.cluster.local"}, {"DATABASE_NAME", a.name}, {"LOG_LEVEL", "info"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel-collector.observability.svc.cluster.local:4317"},
		{"OTEL_RESOURCE_ATTRIBUTES", "service.name=" + a.name + ",deployment.environment=production"},
		{"JAVA_TOOL_OPTIONS", "-XX:MaxRAMPercentage=75.0 -XX:+ExitOnOutOfMemoryError -Djava.security.egd=file:/dev/./urandom"},
	} {
		env = append(env, corev1.EnvVar{Name: v[0], Value: v[1]})
	}
	mount := corev1.VolumeMount{Name: "kube-api-access", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}
	common := corev1.Container{
		TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		ImagePullPolicy: corev1.PullIfNotPresent,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	server, proxy := common, common
	server.Name, server.Image = "server", "registry.example.com/"+a.namespace+"/"+a.name+":"+version
	server.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "metrics", ContainerPort: 9090, Protocol: corev1.ProtocolTCP}}
	server.Env, server.Resources = env, resources("250m", "512Mi", "1Gi")
	server.LivenessProbe, server.ReadinessProbe = probe("/healthz", 10), probe("/ready", 5)
	server.VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/etc/app"}, {Name: "tmp", MountPath: "/tmp"}, mount}
	proxy.Name, proxy.Image = "proxy", "registry.example.com/platform/proxy:1.31.0"
	proxy.Args = []string{"--service-cluster", a.name, "--log-level", "warn", "--concurrency", "2"}
	proxy.Ports = []corev1.ContainerPort{{Name: "proxy", ContainerPort: 15001, Protocol: corev1.ProtocolTCP}}
	proxy.Resources, proxy.VolumeMounts = resources("50m", "64Mi", "128Mi"), []corev1.VolumeMount{mount}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: withHash(a.labels(), a.hash(revision)),
			Annotations: map[string]string{
				"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "checksum/config": hex(a.name + version),
			},
		},
		Spec: corev1.PodSpec{
			Containers:    []corev1.Container{server, proxy},
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, SchedulerName: corev1.DefaultSchedulerName,
			TerminationGracePeriodSeconds: ptr.To(int64(30)), ServiceAccountName: a.name, DeprecatedServiceAccount: a.name,
			SecurityContext: &corev1.PodSecurityContext{FSGroup: ptr.To(int64(1000))}, EnableServiceLinks: ptr.To(false),
			PreemptionPolicy: ptr.To(corev1.PreemptLowerPriority), Priority: ptr.To(int32(0)),
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: a.name}, DefaultMode: ptr.To(int32(0o644))}}},
				{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
					DefaultMode: ptr.To(int32(0o644)),
					Sources: []corev1.VolumeProjection{
						{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr.To(int64(3607)), Path: "token"}},
						{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
							Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
					},
				}}},
			},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway,
				LabelSelector: &metav1.LabelSelector{MatchLabels: a.selector()},
			}},
		},
	}
}

func hex(of string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(of))) }

func imageDigest(image string) string { return "sha256:" + hex(image) }

func managed(at metav1.Time, manager, operation, version, subresource, fields string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationType(operation), APIVersion: version, Time: &at,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields), Subresource: subresource,
	}}
}
