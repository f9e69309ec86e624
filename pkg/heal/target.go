package heal

import (
	"errors"
	"fmt"
	"regexp"
)

// A Target is a Kubernetes object. UID tells a replaced object from the
// original of the same name; ResourceVersion says how fresh the sight of it was.
type Target struct {
	APIVersion      string `json:"api_version"`
	Kind            string `json:"kind"`
	Namespace       string `json:"namespace,omitempty"` // empty for cluster-scoped kinds
	Name            string `json:"name"`
	UID             string `json:"uid"`
	ResourceVersion string `json:"resource_version,omitempty"`
}

// String is how a person would write it: namespace/Kind/name.
func (t Target) String() string {
	if t.Namespace == "" {
		return t.Kind + "/" + t.Name
	}
	return t.Namespace + "/" + t.Kind + "/" + t.Name
}

// Same reports whether t and other are the same object, however fresh the
// sight of either was.
func (t Target) Same(other Target) bool {
	return t.UID == other.UID && t.Kind == other.Kind && t.Namespace == other.Namespace && t.Name == other.Name
}

// tokens are the last three tokens of every subject that is about t.
func (t Target) tokens() []string { return []string{Token(t.Namespace), Token(t.Kind), Token(t.Name)} }

var (
	// https://kubernetes.io/docs/concepts/overview/working-with-objects/names
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	kindName  = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	groupVer  = regexp.MustCompile(`^([a-z0-9.-]{1,253}/)?v[a-z0-9]{1,62}$`)
	uidForm   = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// Validate reports why t cannot be the target of anything, naming each field
// by its path below prefix ("target", "owner").
func (t Target) Validate(prefix string) error {
	var errs []error
	bad := func(field, value, want string) {
		errs = append(errs, fmt.Errorf("%s.%s: %q is not %s", prefix, field, Clean(value, 64), want))
	}
	if !groupVer.MatchString(t.APIVersion) {
		bad("api_version", t.APIVersion, `a group and version such as "apps/v1"`)
	}
	if !kindName.MatchString(t.Kind) {
		bad("kind", t.Kind, "a Kubernetes kind")
	}
	if t.Namespace != "" && (len(t.Namespace) > 63 || !label.MatchString(t.Namespace)) {
		bad("namespace", t.Namespace, "a DNS-1123 label")
	}
	if len(t.Name) > 253 || !subdomain.MatchString(t.Name) {
		bad("name", t.Name, "a DNS-1123 subdomain")
	}
	if !uidForm.MatchString(t.UID) {
		bad("uid", t.UID, "a UID")
	}
	return errors.Join(errs...)
}

// ValidClusterName reports why name cannot name a cluster: it becomes one
// token of every subject.
func ValidClusterName(name string) error {
	if len(name) > 63 || !subdomain.MatchString(name) {
		return fmt.Errorf("cluster: %q is not a DNS-1123 name of at most 63 characters", Clean(name, 64))
	}
	return nil
}
