package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/googlechat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"golang.org/x/time/rate"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

// A chat is any of the services that shoutrrr names by a URL
// (https://shoutrrr.nickfedor.com/services/overview). The library reads the
// URLs; the sending is ours, since its own follows redirects, knows neither a
// deadline of ours nor Retry-After, and puts secrets into its errors.
type chat struct{ sinks map[string]*sink }

// A sink is one place that such a URL names.
type sink struct {
	*poster
	at     string // the URL that is posted to
	header http.Header
	body   func(title, text string) ([]byte, error)
	public bool // the host is the service's own, on the Internet
}

// services are those that a message can be sent to in one request.
var services = map[string]func(*url.URL) ([]*sink, error){
	"discord": toDiscord, "generic": toGeneric, "googlechat": toGoogleChat, "gotify": toGotify, "mattermost": toMattermost,
	"ntfy": toNtfy, "rocketchat": toRocketChat, "teams": toTeams, "telegram": toTelegram,
}

// chatPace is what all of them take from one sender, and less than any minds.
const chatPace = rate.Limit(1)

// What the services take, in characters.
const (
	discordText  = 2000  // https://discord.com/developers/docs/resources/webhook#execute-webhook
	telegramText = 4096  // https://core.telegram.org/bots/api#sendmessage
	googleText   = 4000  // of 4096 bytes before it is split: https://developers.google.com/workspace/chat/create-messages
	chatText     = 12000 // of 16383 in Mattermost and 28 KiB in Teams
	ntfyText     = 1000  // 4096 bytes; what is longer becomes an attachment
)

func openShoutrrr(o options) (*Line, error) {
	line := &Line{}
	c := chat{map[string]*sink{}}
	var errs []error
	for i, text := range splitURLs(o.ShoutrrrURLs.Reveal()) {
		sinks, err := sinksOf(fmt.Sprintf("shoutrrr_urls[%d]", i), text, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		scheme, _, _ := strings.Cut(text, ":")
		scheme, _, _ = strings.Cut(scheme, "+")
		for _, s := range sinks {
			name := scheme
			for n := 2; c.sinks[name] != nil; n++ {
				name = fmt.Sprintf("%s-%d", scheme, n)
			}
			c.sinks[name] = s
			line.Listeners = append(line.Listeners, route.Listener{To: name, Audience: route.Incident})
		}
	}
	if len(c.sinks) == 0 || len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	line.Channel = c
	return line, nil
}

var nextURL = regexp.MustCompile(`(\s*,\s*|\s+)[a-z+]+://`)

// splitURLs splits at spaces and commas, but at those only behind which
// another URL begins: some have a comma in them.
func splitURLs(text string) []string {
	var all []string
	for text = strings.TrimSpace(text); text != ""; {
		at := nextURL.FindStringSubmatchIndex(text)
		if at == nil {
			return append(all, text)
		}
		all = append(all, text[:at[0]])
		text = text[at[3]:]
	}
	return all
}

// sinksOf opens what one URL names. No error of the library is shown: some
// quote the URL.
func sinksOf(setting, text string, o options) ([]*sink, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("%s: want a URL such as discord://token@id (it is a secret and not shown)", setting)
	}
	scheme, _, _ := strings.Cut(u.Scheme, "+")
	read := services[scheme]
	if read == nil {
		return nil, fmt.Errorf("%s: %s:// is not known here; want one of %s", setting, heal.Clean(u.Scheme, 32), strings.Join(slices.Sorted(maps.Keys(services)), ", "))
	}
	sinks, err := read(u)
	if errors.Is(err, errNotVerified) {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if err != nil || len(sinks) == 0 {
		return nil, fmt.Errorf("%s: is not a URL of %s as https://shoutrrr.nickfedor.com has them (it is a secret and not shown)", setting, scheme)
	}
	for _, s := range sinks {
		if s.poster, err = newPoster("shoutrrr_urls", config.Secret(s.at), o.timeout); err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		if s.public {
			s.limit(outbound.Public)
		}
		s.pace = rate.NewLimiter(chatPace, 1)
		s.secrets = longestFirst(append(s.secrets, secretParts(u)...))
	}
	return sinks, nil
}

// Send implements Channel.
func (c chat) Send(ctx context.Context, n heal.Notification) error {
	s := c.sinks[n.To]
	if s == nil {
		return permanent("shoutrrr_urls: names no %q", heal.Clean(n.To, 64))
	}
	title, text := renderChat(n)
	body, err := s.body(title, text)
	if err != nil {
		return permanent("shoutrrr_urls: %s", s.scrub(err.Error()))
	}
	return s.post(ctx, s.header, body)
}

// tame keeps chats from acting upon foreign text: no link, no mention of
// everybody, no markup of links. None of them escapes alike, and all of them
// take a character that is not seen for an end of what they look for.
var tame = strings.NewReplacer("://", "[:]//", "@", "@\u200b", "<", "<\u200b", "](", "]\u200b(", "www.", "www\u200b.", "`", "ˋ").Replace

// renderChat writes n as a title and lines.
func renderChat(n heal.Notification) (title, text string) {
	e := email{Story: story.Of(n).Map(tame)}
	title, text, _ = strings.Cut(e.text(), "\n")
	return title, strings.TrimSpace(text)
}

var errNotVerified = errors.New("the certificate of the server must be verified: give the authority that signed it to the system, and take the option away")

func asJSON(v func(title, text string) any) func(title, text string) ([]byte, error) {
	return func(title, text string) ([]byte, error) { return json.Marshal(v(title, text)) }
}

func whole(title, text string, limit int) string { return clip(title+"\n"+text, limit) }

var jsonHeader = http.Header{"Content-Type": {"application/json; charset=utf-8"}}

func toDiscord(u *url.URL) ([]*sink, error) {
	var s discord.Service
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	return []*sink{{at: discord.CreateAPIURLFromConfig(s.Config), header: jsonHeader, public: true, body: asJSON(func(title, text string) any {
		said := map[string]any{"content": whole(title, text, discordText), "allowed_mentions": map[string]any{"parse": []string{}}, "flags": 4} // 4: no previews
		if s.Config.Username != "" {
			said["username"] = s.Config.Username
		}
		return said
	})}}, nil
}

func toTeams(u *url.URL) ([]*sink, error) {
	var s teams.Service
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	c := s.Config
	return []*sink{{at: teams.BuildWebhookURL(c.Host, c.Group, c.Tenant, c.AltID, c.GroupOwner, c.ExtraID), header: jsonHeader, public: true, body: asJSON(func(title, text string) any {
		type section struct {
			Text     string `json:"text"`
			Markdown bool   `json:"markdown"`
		}
		var sections []section
		for line := range strings.Lines(clip(text, chatText)) {
			sections = append(sections, section{Text: strings.TrimSpace(line)})
		}
		return map[string]any{"@type": "MessageCard", "@context": "https://schema.org/extensions", "title": title, "summary": title, "sections": sections}
	})}}, nil
}

func toGoogleChat(u *url.URL) ([]*sink, error) {
	var s googlechat.Service
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	to := url.URL{Scheme: "https", Host: s.Config.Host, Path: s.Config.Path, RawQuery: url.Values{"key": {s.Config.Key}, "token": {s.Config.Token}}.Encode()}
	return []*sink{{at: to.String(), header: jsonHeader, public: true, body: asJSON(func(title, text string) any {
		return map[string]string{"text": whole(title, text, googleText/2)} // half of them may take two bytes
	})}}, nil
}

func toTelegram(u *url.URL) ([]*sink, error) {
	var s telegram.Service
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	c := s.GetConfig()
	var all []*sink
	for _, to := range c.Chats {
		id, thread, _ := strings.Cut(to, ":")
		all = append(all, &sink{at: "https://api.telegram.org/bot" + c.Token + "/sendMessage", header: jsonHeader, public: true, body: asJSON(func(title, text string) any {
			said := map[string]any{"chat_id": id, "text": whole(title, text, telegramText), "disable_web_page_preview": true, "disable_notification": !c.Notification}
			if thread != "" {
				said["message_thread_id"] = json.Number(thread)
			}
			return said
		})})
	}
	return all, nil
}

func toMattermost(u *url.URL) ([]*sink, error) {
	var s mattermost.Service
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	c := s.Config
	return []*sink{{at: scheme(c.DisableTLS) + c.Host + "/hooks/" + c.Token, header: jsonHeader, body: func(title, text string) ([]byte, error) {
		return mattermost.CreateJSONPayload(c, whole(title, text, chatText), &types.Params{})
	}}}, nil
}

func toRocketChat(u *url.URL) ([]*sink, error) {
	var s rocketchat.Service
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	return []*sink{{at: "https://" + u.Host + "/hooks/" + s.Config.TokenA + "/" + s.Config.TokenB, header: jsonHeader, body: func(title, text string) ([]byte, error) {
		return rocketchat.CreateJSONPayload(s.Config, whole(title, text, chatText), &types.Params{})
	}}}, nil
}

func toNtfy(u *url.URL) ([]*sink, error) {
	var s ntfy.Service
	if err := s.Initialize(u, quiet{}); err != nil {
		return nil, err
	}
	c := s.Config
	if c.DisableTLSVerification {
		return nil, errNotVerified
	}
	at, err := url.Parse(c.GetAPIURL())
	if err != nil {
		return nil, err
	}
	if c.Password != "" {
		at.User = url.UserPassword(c.Username, c.Password)
	}
	header := http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Priority": {c.Priority.String()}}
	if len(c.Tags) > 0 {
		header["Tags"] = []string{strings.Join(c.Tags, ",")}
	}
	return []*sink{{at: at.String(), header: header, body: func(title, text string) ([]byte, error) {
		return []byte(whole(title, text, ntfyText)), nil
	}}}, nil
}

func toGotify(u *url.URL) ([]*sink, error) {
	var s gotify.Service
	if err := s.Initialize(u, quiet{}); err != nil {
		return nil, err
	}
	c := s.Config
	if c.InsecureSkipVerify {
		return nil, errNotVerified
	}
	header := jsonHeader.Clone()
	header["X-Gotify-Key"] = []string{c.Token}
	return []*sink{{at: scheme(c.DisableTLS) + c.Host + strings.TrimSuffix(c.Path, "/") + "/message", header: header, body: asJSON(func(title, text string) any {
		return map[string]any{"title": title, "message": clip(text, chatText), "priority": c.Priority}
	})}}, nil
}

// toGeneric posts to any address, as generic+https://… or generic://….
func toGeneric(u *url.URL) ([]*sink, error) {
	header := http.Header{}
	for key, values := range u.Query() {
		if name, found := strings.CutPrefix(key, "@"); found && len(values) > 0 {
			header.Set(name, values[0])
		}
	}
	custom := *u
	_, scheme, found := strings.Cut(u.Scheme, "+")
	if custom.Scheme = scheme; !found {
		custom.Scheme = "https"
	}
	if off := u.Query().Get("disabletls"); strings.EqualFold(off, "yes") || strings.EqualFold(off, "true") {
		custom.Scheme = "http"
	}
	c, _, err := generic.ConfigFromWebhookURL(custom)
	if err != nil || c.RequestMethod != http.MethodPost {
		return nil, errors.Join(errors.New("not by POST"), err)
	}
	c.DisableTLS = custom.Scheme == "http"
	header.Set("Content-Type", c.ContentType)
	return []*sink{{at: c.WebhookURL().String(), header: header, body: func(title, text string) ([]byte, error) {
		said := types.Params{c.MessageKey: whole(title, text, chatText)}
		if c.Template != "" {
			said = types.Params{c.TitleKey: title, c.MessageKey: clip(text, chatText)}
		}
		body, err := (&generic.Service{}).GetPayload(c, said)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(body)
	}}}, nil
}

func scheme(plain bool) string {
	if plain {
		return "http://"
	}
	return "https://"
}

// quiet is a log that nobody reads: the library writes URLs into it.
type quiet struct{}

func (quiet) Print(...any)          {}
func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
