package bus

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/selfheal/selfheal/pkg/heal"
)

// connection is how the bus connects, and what it does when that changes.
func (b *Bus) connection() []nats.Option {
	up := func(nc *nats.Conn) {
		b.waits.connected()
		b.log.Info("connected to nats", "url", nc.ConnectedUrlRedacted(), "server", nc.ConnectedServerName(), "version", nc.ConnectedServerVersion())
		b.mu.Lock()
		defer b.mu.Unlock()
		close(b.connected)
		b.connected = make(chan struct{})
		clear(b.reported)
		b.dialed = nil
	}
	return []nats.Option{
		nats.Name(heal.Product + " " + b.service),
		// An inbox of its own, so that an account can keep each service
		// from reading the answers to another.
		nats.CustomInboxPrefix("_INBOX_" + b.service),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // the user may be added, or the key changed, while we wait
		// No buffer: or a publish that failed arrives after the reconnect.
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		nats.ConnectHandler(up),
		nats.ReconnectHandler(up),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.waits.lost(awayError{fmt.Errorf("the connection to NATS at %s was lost: %w", b.url, cmp.Or(err, nats.ErrDisconnected))})
			if !b.isClosed() {
				b.log.Warn("nats is away, trying again until it answers", "url", b.url, "err", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.dialed = err
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) && b.waits.refused(b.refusal(err)) {
				return
			}
			if b.unreported(err) {
				b.log.Warn("nats reported an error", "err", err)
			}
		}),
	}
}

// unreported reports whether err is the first of its kind since the last
// connect: a wrong key fails at every attempt.
func (b *Bus) unreported(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := err.Error()
	if b.reported[text] || len(b.reported) >= 100 {
		return false
	}
	b.reported[text] = true
	return true
}

// checkURL returns the servers to connect to, or names the one that no
// attempt could reach. Credentials do not belong there: URLs are logged.
func checkURL(list string) (string, error) {
	if list == "" {
		return nats.DefaultURL, nil
	}
	for i, s := range strings.Split(list, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			return "", fmt.Errorf("nats_url[%d]: not a URL; want nats://host:4222 or tls://host:4222", i)
		}
		switch {
		case u.User != nil:
			return "", fmt.Errorf("nats_url[%d]: must not contain credentials; use nats_nkey or nats_creds", i)
		case u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "":
			return "", fmt.Errorf("nats_url[%d]: want nats:// or tls:// and a host, got %q", i, heal.Clean(s, 128))
		}
	}
	return list, nil
}

// authOptions are the options that say who we are.
func authOptions(o Options) ([]nats.Option, error) {
	switch {
	case o.CredsFile != "" && o.NKeyFile != "":
		return nil, fmt.Errorf("nats_creds %q and nats_nkey %q: give one of them", o.CredsFile, o.NKeyFile)
	case o.CredsFile != "":
		data, err := readSecret("nats_creds", o.CredsFile)
		if err != nil {
			return nil, err
		}
		if jwt, err := nkeys.ParseDecoratedJWT(data); err != nil || !strings.HasPrefix(jwt, "eyJ") {
			return nil, fmt.Errorf("nats_creds %q: holds no user JWT; want a .creds file as nsc writes it", o.CredsFile)
		}
		if _, err := nkeys.ParseDecoratedUserNKey(data); err != nil {
			return nil, fmt.Errorf("nats_creds %q: holds no user seed (SU…); want a .creds file as nsc writes it", o.CredsFile)
		}
		return []nats.Option{nats.UserCredentials(o.CredsFile)}, nil
	case o.NKeyFile != "":
		if err := checkSeed(o.NKeyFile); err != nil {
			return nil, err
		}
		opt, err := nats.NkeyOptionFromSeed(o.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("nats_nkey %q: %w", o.NKeyFile, err)
		}
		return []nats.Option{opt}, nil
	}
	return nil, nil
}

// checkSeed reports why the file cannot prove who we are, without quoting it.
func checkSeed(file string) error {
	data, err := readSecret("nats_nkey", file)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(data))
	if nkeys.IsValidPublicKey(text) {
		return fmt.Errorf("nats_nkey %q: is a public key (%c…); need the seed (SU…)", file, text[0])
	}
	pair, err := nkeys.ParseDecoratedNKey(data)
	if err != nil {
		return fmt.Errorf("nats_nkey %q: is not an nkey; need a user's seed (SU…)", file)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return fmt.Errorf("nats_nkey %q: is the seed of another kind of key (S%.1s…); need a user's seed (SU…)", file, public)
	}
	return nil
}

// readSecret reads a file that nobody else may read.
func readSecret(setting, file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", setting, file, errors.Unwrap(err))
	}
	// The group may read: that is how Kubernetes gives a mounted secret to a
	// process that is not root.
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("%s %q: mode %04o is readable by others; want 0400", setting, file, mode)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", setting, file, errors.Unwrap(err))
	}
	return data, nil
}

// checkName reports why name cannot be a token of a subject and a part of a
// source.
func checkName(field, name string) error {
	for _, r := range name {
		if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') {
			return fmt.Errorf("%s: %q holds %q; want lower-case letters, digits and hyphens", field, heal.Clean(name, 64), r)
		}
	}
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("%s: %q is not a name of 1 to 63 characters that neither begins nor ends with a hyphen", field, heal.Clean(name, 64))
	}
	return nil
}
