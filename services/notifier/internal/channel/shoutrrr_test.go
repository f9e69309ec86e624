package channel

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

// What each service is asked for. Ids and tokens are of the form that the
// service's are.
const (
	teamsURL = "teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05?host=acme.webhook.office.com"
	token    = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1"
)

func TestTheServicesAreAskedInTheirOwnWay(t *testing.T) {
	for _, tt := range []struct{ give, at, header, body string }{
		{"discord://tok-en@112233", "https://discord.com/api/webhooks/112233/tok-en", "", `{"allowed_mentions":{"parse":[]},"content":"title\ntext","flags":4}`},
		{"discord://tok-en@112233?username=heal", "https://discord.com/api/webhooks/112233/tok-en", "", `{"allowed_mentions":{"parse":[]},"content":"title\ntext","flags":4,"username":"heal"}`},
		{teamsURL, "https://acme.webhook.office.com/webhookb2/11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/IncomingWebhook/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05", "",
			`{"@context":"https://schema.org/extensions","@type":"MessageCard","sections":[{"text":"text","markdown":false}],"summary":"title","title":"title"}`},
		{"googlechat://chat.googleapis.com/v1/spaces/AAAA/messages?key=k&token=t", "https://chat.googleapis.com/v1/spaces/AAAA/messages?key=k&token=t", "", `{"text":"title\ntext"}`},
		{"telegram://" + token + "@telegram?chats=@ops", "https://api.telegram.org/bot" + token + "/sendMessage", "", `{"chat_id":"@ops","disable_notification":false,"disable_web_page_preview":true,"text":"title\ntext"}`},
		{"mattermost://heal@chat.example.com/tok-en/ops", "https://chat.example.com/hooks/tok-en", "", `{"text":"title\ntext","username":"heal","channel":"ops"}`},
		{"rocketchat://chat.example.com:8443/a/b", "https://chat.example.com:8443/hooks/a/b", "", `{"text":"title\ntext"}`},
		{"ntfy://ntfy.sh/topic?priority=high&tags=fire", "https://ntfy.sh/topic", "Priority: High", "title\ntext"},
		{"gotify://push.example.com/sub/Ax7tokenx7token", "https://push.example.com/sub/message", "X-Gotify-Key: Ax7tokenx7token", `{"message":"text","priority":0,"title":"title"}`},
		{"generic://hook.example.com/in?key=k", "https://hook.example.com/in?key=k", "", "title\ntext"},
		{"generic+https://hook.example.com/in?template=json&@Authorization=Bearer+t", "https://hook.example.com/in", "Authorization: Bearer t", `{"message":"text","title":"title"}`},
	} {
		sinks, err := sinksOf("shoutrrr_urls[0]", tt.give, options{timeout: time.Second})
		if err != nil || len(sinks) != 1 {
			t.Errorf("%s: %d, %v", tt.give, len(sinks), err)
			continue
		}
		s := sinks[0]
		body, err := s.body("title", "text")
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{tt.at, tt.body}, []string{s.url.String(), string(body)}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.give, diff)
		}
		if name, want, _ := strings.Cut(tt.header, ": "); s.header.Get(name) != want {
			t.Errorf("%s: header %s: %q, want %q", tt.give, name, s.header.Get(name), want)
		}
		for _, secret := range []string{s.url.Path, "tok-en", token} {
			if said := s.scrub("failed: " + s.url.String() + " " + secret); len(secret) >= 6 && strings.Contains(tt.at, secret) && strings.Contains(said, secret) {
				t.Errorf("%s: %q is not taken out of %s", tt.give, secret, said)
			}
		}
	}
}

func TestSeveralURLsAreSeveralPlaces(t *testing.T) {
	s := settings()
	s.ShoutrrrURLs = config.Secret("discord://tok-en@1, discord://tok-en@2  telegram://" + token + "@telegram?chats=@ops,-100200:7," + teamsURL)
	lines, err := Open(s, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines[0].Listeners {
		got = append(got, fmt.Sprintf("%s:%s %s", l.Channel, l.To, l.Audience))
	}
	want := []string{"shoutrrr:discord incident", "shoutrrr:discord-2 incident", "shoutrrr:telegram incident", "shoutrrr:telegram-2 incident", "shoutrrr:teams incident"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAURLThatCannotWorkEndsTheStartAndIsNotShown(t *testing.T) {
	for give, want := range map[string]string{
		"canary":                             "shoutrrr_urls[0]: want a URL such as discord://token@id (it is a secret and not shown)",
		"discord://canary\x7f@1":             "shoutrrr_urls[0]: want a URL such as discord://token@id (it is a secret and not shown)",
		"smtp://canary@host":                 "shoutrrr_urls[0]: smtp:// is not known here; want one of discord, generic, googlechat, gotify, mattermost, ntfy, rocketchat, teams, telegram",
		"telegram://canary@telegram?chats=x": "shoutrrr_urls[0]: is not a URL of telegram as https://shoutrrr.nickfedor.com has them (it is a secret and not shown)",
		"discord://tok-en@1 teams://canary":  "shoutrrr_urls[1]: is not a URL of teams as https://shoutrrr.nickfedor.com has them (it is a secret and not shown)",
		"generic+http://example.com/canary":  "shoutrrr_urls[0]: shoutrrr_urls: want https://, got http:// to example.com; http:// is only for a loopback host",
		"ntfy://ntfy.example.com/canary?disabletlsverification=yes": "shoutrrr_urls[0]: the certificate of the server must be verified: give the authority that signed it to the system, and take the option away",
		"generic://example.com/canary?method=GET":                   "shoutrrr_urls[0]: is not a URL of generic as https://shoutrrr.nickfedor.com has them (it is a secret and not shown)",
	} {
		s := settings()
		s.ShoutrrrURLs = config.Secret(give)
		_, err := Open(s, time.Second)
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestChatsDoNotActUponForeignText(t *testing.T) {
	r := sample.Healed()
	evil := "<!channel> @everyone @here <users/all> <@U1> [click](https://evil.example) https://evil.example www.evil.example `x`"
	r.Message, r.Decision.Failure.Description = evil, evil
	title, text := renderChat(sample.Notification("shoutrrr", "discord", r))
	for _, bad := range []string{"<!", "@everyone", "@here", "<users", "<@", "](", "://evil", "www.evil"} {
		if strings.Contains(title+text, bad) {
			t.Errorf("%q is left in:\n%s", bad, text)
		}
	}
	if !strings.Contains(title, "healed by") || !strings.Contains(text, "Severity") {
		t.Errorf("what matters is missing: %s\n%s", title, text)
	}
}

// What a chat would act upon: addresses, mentions, links with another text,
// Slack's and Google's own brackets.
var activeInChats = regexp.MustCompile("://|@[A-Za-z0-9]|<[!@#A-Za-z/]|\\]\\(|(?i:www\\.)|`")

func TestNothingForeignIsActiveInAnyChat(t *testing.T) {
	var sinks []*sink
	for _, give := range []string{
		"discord://tok-en@1", teamsURL, "googlechat://h/p?key=k&token=t", "telegram://" + token + "@telegram?chats=1", "mattermost://h/t", "rocketchat://h/a/b",
		"ntfy://h/t", "gotify://h/Ax7tokenx7token", "generic://h/t", "generic+https://h/t?template=json",
	} {
		some, err := sinksOf("x", give, options{timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		sinks = append(sinks, some...)
	}
	for _, foreign := range hostile() {
		title, text := renderChat(sample.Notification("shoutrrr", "x", everywhere(foreign)))
		for _, s := range sinks {
			body, err := s.body(title, text)
			if err != nil || !utf8.Valid(body) {
				t.Fatalf("%.80q: %v", foreign, err)
			}
			said := []string{string(body)}
			if strings.HasPrefix(string(body), "{") {
				var v any
				if err := json.Unmarshal(body, &v); err != nil {
					t.Fatalf("%.80q: %v in %s", foreign, err, body)
				}
				said = stringsOf(v)
			}
			for _, line := range strings.Split(strings.Join(said, "\n"), "\n") {
				if found := activeInChats.FindString(line); found != "" {
					t.Fatalf("%.80q: to %s: %q is active in %q", foreign, s.url.Hostname(), found, line)
				}
				if bare := strings.TrimSpace(strings.ReplaceAll(line, "\u200b", "")); heal.Clean(bare, 1<<20) != bare {
					t.Fatalf("%.80q: to %s: not clean: %q", foreign, s.url.Hostname(), line)
				}
			}
		}
	}
}

// stringsOf are the texts in decoded JSON, but for what says its schema.
func stringsOf(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			all = append(all, stringsOf(e)...)
		}
	case map[string]any:
		for name, e := range v {
			if !strings.HasPrefix(name, "@") {
				all = append(all, stringsOf(e)...)
			}
		}
	}
	return all
}

func TestALongMessageFitsIntoEachService(t *testing.T) {
	long := strings.Repeat("ü", 50_000)
	for give, most := range map[string]int{
		"discord://tok-en@1": 2000, teamsURL: 28 << 10, "googlechat://h/p?key=k&token=t": 4096 / 2, "telegram://" + token + "@telegram?chats=1": 4096,
		"mattermost://h/t": 16383, "rocketchat://h/a/b": 16383, "ntfy://h/t": 4096 / 2,
	} {
		sinks, err := sinksOf("x", give, options{timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		body, err := sinks[0].body("title", long)
		if got := strings.Count(string(body), "ü"); err != nil || got < 900 || got > most {
			t.Errorf("%.12s: %d characters, want at most %d; %v", give, got, most, err)
		}
	}
}
