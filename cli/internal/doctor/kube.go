package doctor

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/watcher"
)

// A Duty is something that a service does, and the rights it takes.
type Duty struct {
	Service string
	What    string // watching, looking, or a strategy
	Rules   []rbacv1.PolicyRule
}

// Duties are what the services do with the API server.
func Duties() []Duty {
	all := []Duty{{Service: watcher.Name, What: "watching", Rules: watcher.Rules()}}
	of := actuator.StrategyRules()
	for _, s := range slices.Sorted(maps.Keys(of)) {
		what := string(s)
		if s == heal.Monitor {
			what = "looking"
		}
		all = append(all, Duty{Service: actuator.Name, What: what, Rules: of[s]})
	}
	return all
}

// A Query says where to look, and for what.
type Query struct {
	Home       string   // the namespace that the services run in
	Namespaces []string // in which they must have the rights; none means all
	Duties     []Duty
}

// Kube is what the API server says.
type Kube struct {
	Err        error // it cannot be asked
	Version    string
	ClockAhead time.Duration // before ours
	Home       string
	Duties     []Answer
}

// An Answer is what is missing for a duty.
type Answer struct {
	Duty
	As      string // whose rights they are
	Missing []string
	Err     error // it could not be asked
}

// Examine asks the API server.
func Examine(ctx context.Context, config *rest.Config, q Query) *Kube {
	k := &Kube{Home: q.Home}
	date := &dateKeeper{}
	config = rest.CopyConfig(config)
	config.Wrap(date.wrap)
	client, err := kube.Client(config)
	if err != nil {
		k.Err = err
		return k
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		k.Err = err
		return k
	}
	k.Version = version.GitVersion
	k.ClockAhead = date.ahead()
	examiner := examiner{client: client, query: q, asked: map[string]bool{}}
	for _, d := range q.Duties {
		k.Duties = append(k.Duties, examiner.answer(ctx, d))
	}
	return k
}

// dateKeeper keeps how far the server's clock was ahead at its first answer.
type dateKeeper struct {
	mu     sync.Mutex // guards what follows
	offset time.Duration
	known  bool
}

func (d *dateKeeper) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		asked := time.Now()
		resp, err := next.RoundTrip(r)
		if err != nil {
			return resp, err
		}
		if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if !d.known {
				// The header is cut to the second.
				d.offset, d.known = at.Add(time.Second/2).Sub(asked.Add(time.Since(asked)/2)), true
			}
		}
		return resp, nil
	})
}

func (d *dateKeeper) ahead() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.offset
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An examiner asks each question once.
type examiner struct {
	client kubernetes.Interface
	query  Query
	asked  map[string]bool // whether it is allowed, by account and question
}

// answer asks for all rights of a duty as the service's account, or as the
// person who asks if the service has none: then it runs as that person, by
// `selfheal up`.
func (e *examiner) answer(ctx context.Context, d Duty) Answer {
	a := Answer{Duty: d, As: "you"}
	account := heal.Product + "-" + d.Service
	_, err := e.client.CoreV1().ServiceAccounts(e.query.Home).Get(ctx, account, metav1.GetOptions{})
	switch {
	case err == nil:
		a.As = "system:serviceaccount:" + e.query.Home + ":" + account
	case !apierrors.IsNotFound(err):
		a.Err = err
		return a
	}
	namespaces := e.query.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, need := range needs(d.Rules) {
		for _, ns := range namespaces {
			need.Namespace = ns
			allowed, err := e.allowed(ctx, a.As, need)
			if err != nil {
				a.Err = err
				return a
			}
			if !allowed {
				a.Missing = append(a.Missing, words(need))
			}
		}
	}
	return a
}

// needs are the single rights that rules come to.
func needs(rules []rbacv1.PolicyRule) []authv1.ResourceAttributes {
	var all []authv1.ResourceAttributes
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, name := range r.Resources {
				resource, sub, _ := strings.Cut(name, "/")
				for _, verb := range r.Verbs {
					all = append(all, authv1.ResourceAttributes{Group: group, Resource: resource, Subresource: sub, Verb: verb})
				}
			}
		}
	}
	return all
}

// words are a right as kubectl auth can-i takes it.
func words(a authv1.ResourceAttributes) string {
	text := a.Verb + " " + a.Resource
	if a.Group != "" {
		text += "." + a.Group
	}
	if a.Subresource != "" {
		text += "/" + a.Subresource
	}
	if a.Namespace != "" {
		text += " in " + a.Namespace
	}
	return text
}

func (e *examiner) allowed(ctx context.Context, as string, need authv1.ResourceAttributes) (bool, error) {
	key := as + " " + words(need)
	if allowed, asked := e.asked[key]; asked {
		return allowed, nil
	}
	auth := e.client.AuthorizationV1()
	var status authv1.SubjectAccessReviewStatus
	var err error
	if as == "you" {
		var r *authv1.SelfSubjectAccessReview
		r, err = auth.SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{
			Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &need},
		}, metav1.CreateOptions{})
		if err == nil {
			status = r.Status
		}
	} else {
		var r *authv1.SubjectAccessReview
		r, err = auth.SubjectAccessReviews().Create(ctx, &authv1.SubjectAccessReview{
			Spec: authv1.SubjectAccessReviewSpec{
				ResourceAttributes: &need, User: as,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + e.query.Home, "system:authenticated"},
			},
		}, metav1.CreateOptions{})
		if err == nil {
			status = r.Status
		}
	}
	if err != nil {
		return false, fmt.Errorf("ask whether %s may %s: %w", as, words(need), err)
	}
	e.asked[key] = status.Allowed
	return status.Allowed, nil
}

func (k *Kube) judge() []Finding {
	if k.Err != nil {
		return one(Fail, "kubernetes", k.Err.Error(), "name the cluster with --kubeconfig and --context, or leave it out with --no-kubernetes")
	}
	all := one(OK, "kubernetes", "the API server answers, "+k.Version, "")
	all = append(all, one(skew("kubernetes-clock", "the API server's", k.ClockAhead))...)
	for _, a := range k.Duties {
		check := "rights: " + a.Service + ", " + a.What
		switch {
		case apierrors.IsForbidden(a.Err):
			all = append(all, Finding{Unknown, check, a.Err.Error(), "look as somebody who may create subjectaccessreviews, such as a cluster-admin (--context)"})
		case a.Err != nil:
			all = append(all, Finding{Unknown, check, a.Err.Error(), "try again when the API server answers"})
		case len(a.Missing) > 0:
			mend := "helm upgrade the chart, which holds these rights"
			if a.As == "you" {
				mend = "there is no account " + heal.Product + "-" + a.Service + " in namespace " + k.Home + ": install the chart, name its namespace with --home, or run `selfheal up` as somebody who may"
			}
			slices.Sort(a.Missing)
			all = append(all, Finding{Fail, check, a.As + " may not " + strings.Join(slices.Compact(a.Missing), ", "), mend})
		default:
			all = append(all, Finding{OK, check, a.As + " may do all of it", ""})
		}
	}
	return all
}
