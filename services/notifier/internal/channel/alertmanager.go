package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// An alertmanager groups, silences and routes by rules of its own
// (https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml).
// So it is told of every result, as it is by Prometheus of every evaluation:
// while a failure lasts it is announced again, and each announcement ends in a
// result that keeps the alert firing. An alert that comes twice is one to it.
type alertmanager struct {
	*poster
	lasts time.Duration
}

// alertLasts is how long an alert fires, at least, unless we say something else
// before. Of a failure that goes away while nothing is done about it no result
// tells the end.
const alertLasts = 15 * time.Minute

// serviceHost is the name of a Service, as the cluster's DNS has it.
var serviceHost = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+\.svc(\.[a-z0-9.-]+)?$`)

func openAlertmanager(o options) (*Line, error) {
	if o.AlertmanagerURL == "" {
		return nil, nil
	}
	api := o.AlertmanagerURL
	if whole, err := url.JoinPath(api, "api", "v2", "alerts"); err == nil {
		api = whole
	}
	p, err := newPlainPoster("alertmanager_url", config.Secret(api), o.timeout)
	if err != nil {
		return nil, err
	}
	// Few have a certificate inside the cluster, and there is no secret to send.
	if host := p.url.Hostname(); p.url.Scheme == "http" && !outbound.Loopback(host) && !serviceHost.MatchString(host) {
		return nil, fmt.Errorf("alertmanager_url: want https://, got http:// to %s; http:// is only for a loopback host and for name.namespace.svc", host)
	}
	lasts := max(alertLasts, 3*o.RecoveryTimeout) // announcements are at most one recovery_timeout apart; one or two may be lost
	return &Line{Channel: alertmanager{p, lasts}, Listeners: []route.Listener{{Audience: route.Record, Ends: true}}}, nil
}

// Send implements Channel.
func (a alertmanager) Send(ctx context.Context, n heal.Notification) error {
	body, err := json.Marshal(renderAlerts(n, a.lasts))
	if err != nil {
		return permanent("alertmanager: %s", err)
	}
	return a.post(ctx, http.Header{"Content-Type": {"application/json"}}, body)
}

// An alert is what Alertmanager calls a postableAlert.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// renderAlerts writes n as one alert that fires for so long, or when the failure
// is over as alerts that ended, one of each severity: an alert is known by its
// labels, and the severity may have been another when it began. One that never
// fired is no news to Alertmanager.
func renderAlerts(n heal.Notification, lasts time.Duration) []alert {
	s := story.Of(n).Map(unlink)
	f := failureOf(n)
	begins, told := f.FirstSeen, cmp.Or(n.Origin.Time, n.Result.StartedAt, f.ResolvedAt)
	if told.Before(begins) {
		told = begins // by another clock; an end before the beginning is refused
	}
	a := alert{Annotations: alertAnnotations(s), StartsAt: begins.UTC(), EndsAt: told.UTC()}
	a.GeneratorURL = a.Annotations["report_url"]
	severities := heal.Severities
	if !alertOver(n) {
		severities, a.EndsAt = []heal.Severity{n.Severity}, a.EndsAt.Add(lasts)
	}
	var all []alert
	for _, severity := range severities {
		a.Labels = alertLabels(f, n.Conversation(), severity, s.Cluster)
		all = append(all, a)
	}
	return all
}

// alertOver reports whether what the alert is about is over. Of an incident that
// goes on, a result may be the end of one pod, and another of the same labels
// fails.
func alertOver(n heal.Notification) bool {
	if n.Failure != nil || n.Phase.Over() {
		return true
	}
	return n.Phase == "" && (talk.Proven(n.Result) || n.Result.Reason == heal.ReasonRecovered)
}

// alertLabels are what an alert is known by, so the incident is one of them:
// two pods of one owner may fail alike, and end apart.
func alertLabels(f heal.Failure, incident string, severity heal.Severity, cluster string) map[string]string {
	affected := f.Affected()
	labels := map[string]string{}
	for name, value := range map[string]string{
		"alertname": f.Reason, "severity": string(severity), "type": string(f.Type), "cluster": cluster,
		"namespace": affected.Namespace, "owner": affected.Kind + "/" + affected.Name, "incident": incidentKey(incident),
	} {
		if text := unlink(heal.Clean(value, heal.MaxText)); text != "" { // to Alertmanager an empty label is none
			labels[name] = text
		}
	}
	return labels
}

func alertAnnotations(s story.Story) map[string]string {
	all := map[string]string{"summary": s.Headline, "description": strings.TrimSpace(s.Happened + "\n" + s.Ended)}
	for _, f := range s.Facts {
		all[annotationName(f.Name)] = f.Value
	}
	for _, c := range s.Chapters {
		all[annotationName(c.Title)] = strings.Join(c.Lines, "\n")
	}
	for _, l := range s.Links {
		all[l.Name+"_url"] = l.URL
	}
	return all
}

// annotationName makes one of our titles a name that Alertmanager takes.
func annotationName(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "_") }
