package local

import (
	"fmt"
	"strings"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
)

// about is what a user should know before anything happens.
type about struct {
	settings  config.Settings
	where     where
	dataDir   string
	log       string
	nats      string
	monitor   string
	addresses []string
	moved     []int
}

// banner says what will be done to which cluster, loudly.
func banner(p screen.Paint, width int, a about) string {
	var b strings.Builder
	row := func(name, text string) {
		const indent = 14
		b.WriteString("\n  " + p.As(fmt.Sprintf("%-12s", name), screen.Dim) + screen.Wrap(text, width, indent, 0))
	}
	headline, explanation, color := modeText(a.settings)
	b.WriteString(p.As("selfheal up · "+headline, screen.Bold, color))
	row("", explanation)
	cluster := a.settings.Cluster + " · " + a.where.config.Host
	if a.where.context != "" {
		cluster = a.settings.Cluster + " · context " + a.where.context + " · " + a.where.config.Host
	}
	row("cluster", cluster)
	row("told", channels(a.settings))
	row("data", a.dataDir+" · log "+a.log)
	row("decisions", fmt.Sprintf("nats sub '%s.*.decisions.>' -s %s", heal.SubjectRoot, a.nats))
	if a.monitor != "" {
		row("nats", a.monitor)
	}
	var pages []string
	for i, s := range services() {
		pages = append(pages, fmt.Sprintf("%s http://%s", s.Name, a.addresses[i]))
	}
	row("http", strings.Join(pages, " · "))
	for _, port := range a.moved {
		row("", fmt.Sprintf("port %d is taken, so a free one was", port))
	}
	row("", "Ctrl-C stops it")
	b.WriteString("\n")
	return b.String()
}

func modeText(s config.Settings) (headline, explanation, color string) {
	if s.DryRun {
		return "dry run", "it sends every change as a trial that the API server throws away: NOTHING IS CHANGED", screen.Cyan
	}
	switch heal.Mode(s.Mode) {
	case heal.ModeAuto:
		return "mode auto", "it WILL CHANGE this cluster within its limits: restart pods, cordon and drain nodes", screen.Red
	case heal.ModeApprove:
		return "mode approve", "it changes this cluster, but only what a person has approved before", screen.Yellow
	}
	return "mode observe", "it watches, decides and says what it would do: NOTHING IS CHANGED", screen.Cyan
}

// channels says who is told, or that nobody is.
func channels(s config.Settings) string {
	if !s.NotificationEnabled {
		return "nobody: notification_enabled is false"
	}
	var on []string
	if s.SlackWebhookURL != "" || s.SlackIncidentWebhookURL != "" || s.SlackBotToken != "" {
		on = append(on, "Slack "+s.SlackChannel+" and "+s.SlackIncidentChannel)
	}
	if s.EmailSMTPServer != "" && len(s.EmailRecipients) > 0 {
		on = append(on, "e-mail")
	}
	if s.PagerDutyEnabled {
		on = append(on, "PagerDuty")
	}
	if s.WebhookURL != "" {
		on = append(on, "webhook")
	}
	if len(on) == 0 {
		return "nobody but this screen: no channel is set"
	}
	return strings.Join(on, ", ")
}
