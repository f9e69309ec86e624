package sim

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// reference names a ConfigMap or Secret that a pod uses.
type reference struct{ kind, namespace, name string }

// missing says what a pod refers to and does not exist: by container for environments, and the first for volumes.
// Messages are the kubelet's.
func missing(pod *corev1.Pod, keysOf func(reference) (map[string]bool, bool)) (config map[string]string, volume string) {
	look := func(kind, name, key string, optional *bool) string {
		if optional != nil && *optional {
			return ""
		}
		keys, ok := keysOf(reference{kind, pod.Namespace, name})
		switch {
		case !ok:
			return fmt.Sprintf("%s %q not found", kind, name)
		case key != "" && !keys[key]:
			return fmt.Sprintf("couldn't find key %s in %s %s/%s", key, map[string]string{"configmap": "ConfigMap", "secret": "Secret"}[kind], pod.Namespace, name)
		}
		return ""
	}
	config = make(map[string]string)
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if m := missingEnv(c, look); m != "" {
				config[c.Name] = m
			}
		}
	}
	for _, v := range pod.Spec.Volumes {
		m := ""
		switch {
		case v.ConfigMap != nil:
			m = look("configmap", v.ConfigMap.Name, "", v.ConfigMap.Optional)
		case v.Secret != nil:
			m = look("secret", v.Secret.SecretName, "", v.Secret.Optional)
		}
		if m != "" {
			return config, fmt.Sprintf("volume %q: %s", v.Name, m)
		}
	}
	return config, ""
}

func missingEnv(c corev1.Container, look func(kind, name, key string, optional *bool) string) string {
	for _, e := range c.EnvFrom {
		m := ""
		switch {
		case e.ConfigMapRef != nil:
			m = look("configmap", e.ConfigMapRef.Name, "", e.ConfigMapRef.Optional)
		case e.SecretRef != nil:
			m = look("secret", e.SecretRef.Name, "", e.SecretRef.Optional)
		}
		if m != "" {
			return m
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		m := ""
		switch {
		case e.ValueFrom.ConfigMapKeyRef != nil:
			r := e.ValueFrom.ConfigMapKeyRef
			m = look("configmap", r.Name, r.Key, r.Optional)
		case e.ValueFrom.SecretKeyRef != nil:
			r := e.ValueFrom.SecretKeyRef
			m = look("secret", r.Name, r.Key, r.Optional)
		}
		if m != "" {
			return m
		}
	}
	return ""
}
