package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A natsContext is a file of the nats command line
// (https://github.com/nats-io/jsm.go/blob/main/natscontext/context.go), as far
// as it says how to connect.
type natsContext struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	Token    string `json:"token"`
	Creds    string `json:"creds"`
	NKey     string `json:"nkey"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	CA       string `json:"ca"`
	TLSFirst bool   `json:"tls_first"`

	// What we cannot do, and must not pass over.
	NSC       string `json:"nsc"`
	UserJWT   string `json:"user_jwt"`
	Domain    string `json:"jetstream_domain"`
	APIPrefix string `json:"jetstream_api_prefix"`
	SOCKS     string `json:"socks_proxy"`
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// NATSContext returns o with the address and the credentials of a context of
// the nats command line, which keeps them below configHome/nats. An error says
// what there is instead, and quotes nothing secret.
func NATSContext(o Options, configHome, name string) (Options, error) {
	dir := filepath.Join(configHome, "nats", "context")
	if !contextName.MatchString(name) || strings.HasPrefix(name, ".") {
		return o, fmt.Errorf("nats context %q: not a context's name", heal.Clean(name, 64))
	}
	file := filepath.Join(dir, name+".json")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return o, fmt.Errorf("nats context %q: %s does not exist; %s", name, file, contextsIn(dir))
	}
	if err != nil {
		return o, fmt.Errorf("nats context %q: %w", name, err)
	}
	var c natsContext
	if err := json.Unmarshal(data, &c); err != nil {
		return o, fmt.Errorf("nats context %q: %s is not JSON as `nats context add` writes it", name, file)
	}
	for field, value := range map[string]string{
		"nsc": c.NSC, "user_jwt": c.UserJWT, "jetstream_domain": c.Domain, "jetstream_api_prefix": c.APIPrefix, "socks_proxy": c.SOCKS,
	} {
		if value != "" {
			return o, fmt.Errorf("nats context %q: %s is set, which is not supported here; use creds or nkey, and a server that is reached directly", name, field)
		}
	}
	return c.apply(o, name)
}

func (c natsContext) apply(o Options, name string) (Options, error) {
	home := func(path string) string { // as the nats command line does
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			return filepath.Join(os.Getenv("HOME"), rest)
		}
		return path
	}
	var servers []string
	for s := range strings.SplitSeq(c.URL, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		u, err := url.Parse(s)
		if err != nil {
			return o, fmt.Errorf("nats context %q: url: not a URL; want nats://host:4222 or tls://host:4222", name)
		}
		if u.User != nil { // we log URLs: what is secret in them must not stay there
			if password, given := u.User.Password(); given {
				c.User, c.Password = u.User.Username(), password
			} else {
				c.Token = u.User.Username()
			}
			u.User = nil
		}
		servers = append(servers, u.String())
	}
	o.URL = strings.Join(servers, ",")
	o.CredsFile, o.NKeyFile = home(c.Creds), home(c.NKey)
	o.NATS = slices.Clone(o.NATS)
	switch {
	case c.User != "" && c.Password == "": // so does the nats command line
		o.NATS = append(o.NATS, nats.Token(c.User))
	case c.User != "":
		o.NATS = append(o.NATS, nats.UserInfo(c.User, c.Password))
	case c.Token != "":
		o.NATS = append(o.NATS, nats.Token(c.Token))
	}
	if c.Cert != "" || c.Key != "" {
		o.NATS = append(o.NATS, nats.ClientCert(home(c.Cert), home(c.Key)))
	}
	if c.CA != "" {
		o.NATS = append(o.NATS, nats.RootCAs(home(c.CA)))
	}
	if c.TLSFirst {
		o.NATS = append(o.NATS, nats.TLSHandshakeFirst())
	}
	return o, nil
}

// contextsIn says which contexts there are.
func contextsIn(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		return "there is none; `nats context add` makes one"
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".json")
	}
	return "there is " + strings.Join(files, ", ")
}
