package config

import (
	"fmt"
	"strings"
)

// check finds what is wrong between settings that are right one by one.
func check(s Settings, o *Origins, service string) []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if s.VerifyWindow > s.RecoveryTimeout && s.RecoveryTimeout > 0 {
		add("verify_window (%s): %s is longer than recovery_timeout, which is %s (%s); no recovery could ever be verified in time",
			o.Of("verify_window").From, short(s.VerifyWindow), short(s.RecoveryTimeout), o.Of("recovery_timeout").From)
	}
	if s.NATSCreds != "" && s.NATSNKey != "" {
		add("nats_creds (%s) and nats_nkey (%s): both are given; give one", o.Of("nats_creds").From, o.Of("nats_nkey").From)
	}
	if !s.NotificationEnabled || (service != "" && service != "notifier") {
		return errs
	}
	if key := s.PagerDutyRoutingKey.Reveal(); s.PagerDutyEnabled && len(key) != 32 {
		add("pagerduty_routing_key (%s): want 32 characters, got %d; or set pagerduty_enabled to false (it is true by %s)",
			o.Of("pagerduty_routing_key").From, len(key), o.Of("pagerduty_enabled").From)
	}
	if s.EmailSMTPServer == "" {
		return errs
	}
	server := fmt.Sprintf("email_smtp_server is %q (%s)", s.EmailSMTPServer, o.Of("email_smtp_server").From)
	if len(s.EmailRecipients) == 0 {
		add("email_recipients (%s): want at least one address, because %s", o.Of("email_recipients").From, server)
	}
	if s.EmailFrom == "" {
		add("email_from (%s): want an address, because %s and email_username is none", o.Of("email_from").From, server)
	}
	if s.EmailPassword != "" && !s.EmailUseTLS && !loopback(strings.ToLower(s.EmailSMTPServer)) {
		add("email_use_tls (%s): is false, which would send email_password (%s) in the clear to %s",
			o.Of("email_use_tls").From, o.Of("email_password").From, s.EmailSMTPServer)
	}
	return errs
}
