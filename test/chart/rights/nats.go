package rights

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// clusterToken stands in the file for the cluster's name, which the chart knows.
const clusterToken = "@CLUSTER@"

// home is the account that the streams are in.
const home = "SELFHEAL"

// A Client is one user of the streams, in an account of its own. Nothing of
// the streams' account is seen from there but what is listed here; and the
// reply to a request goes back to that account alone, so that nobody can have
// the server answer into a stream.
type Client struct {
	Name      string       // of the service; operator is who uses the command line
	Inbox     string       // the service's name as the bus knows it
	Publishes []string     // topics
	Says      []string     // single words of the topic control
	Buttons   []string     // subjects behind the cluster's token that it may publish to if people may answer by the buttons of messages
	Letters   []string     // the stages of its dead letters
	Durables  []Durable    // its places on topics
	Follows   []Reading    // what it reads with consumers that come and go
	Scans     []string     // the streams that it reads as a whole, by no consumer
	Copies    []string     // the streams that a server which connects in its name may copy
	Keeps     []bus.Bucket // the buckets that it writes
	Lists     []bus.Bucket // the buckets that it reads as a whole, once
	Listens   []bus.Bucket // the buckets of which it follows the changes
	Stores    []bus.Bucket // the object stores that it writes
	Answers   []string     // the endpoints that it answers at, as a micro service
	Inspects  bool         // may see what consumers there are
	Asks      bool         // may ask every service at all its endpoints
}

// discovery is where all micro services are asked who they are.
const discovery = "$SRV.>"

// answers are where a client is asked. What it replies goes back to who asked.
func (c Client) answers() []string {
	if len(c.Answers) == 0 {
		return nil
	}
	all := []string{discovery}
	for _, endpoint := range c.Answers {
		all = append(all, strings.Join([]string{heal.SubjectRoot, clusterToken, "api", c.Name, endpoint}, "."))
	}
	return all
}

// asks are where c may ask, and the accounts that are asked there.
func (c Client) asks() map[string][]string {
	if !c.Asks {
		return nil
	}
	all := map[string][]string{}
	for _, other := range Clients() {
		for _, subject := range other.answers() {
			all[subject] = append(all[subject], account(other.Name))
		}
	}
	return all
}

// askers are the accounts that may ask.
func askers() string {
	var all []string
	for _, c := range Clients() {
		if c.Asks {
			all = append(all, account(c.Name))
		}
	}
	return strings.Join(all, ", ")
}

// A Durable is a consumer that stays. The name may be *.
type Durable struct{ Stream, Name, Topic string }

// A Reading is a topic of a stream, or with no topic all of it.
type Reading struct{ Stream, Topic string }

// Clients is who may do what.
func Clients() []Client {
	failures, decisions, results := bus.Failures.Stream, bus.Decisions.Stream, bus.Results.Stream
	notifications, letters := bus.Notifications.Stream, bus.DeadLetters.Stream
	return []Client{
		{
			Name: "watcher", Inbox: "watcher",
			Answers:   []string{"ready"},
			Publishes: []string{bus.Failures.Root},
			Keeps:     []bus.Bucket{bus.EpisodesBucket, bus.PositionsBucket, bus.ObserversBucket},
			Lists:     []bus.Bucket{bus.EpisodesBucket, bus.ObserversBucket},
		},
		{
			Name: "analyzer", Inbox: "analyzer",
			Answers:   []string{"ready", "explain", "policy"},
			Publishes: []string{bus.Decisions.Root},
			Letters:   []string{"analyzer", "analyzer-feedback"},
			Durables:  []Durable{{failures, "analyzer", bus.Failures.Root}, {results, "analyzer-feedback", bus.Results.Root}},
			Scans:     []string{failures, decisions, results}, // to remember what it has lost
			Keeps:     []bus.Bucket{bus.IncidentsBucket},
			Lists:     []bus.Bucket{bus.IncidentsBucket},
			Listens:   []bus.Bucket{bus.ObserversBucket},
		},
		{
			Name: "actuator", Inbox: "actuator",
			Answers:   []string{"ready"},
			Publishes: []string{bus.Results.Root},
			Says:      []string{heal.TakenBack},
			Letters:   []string{"actuator", "actuator-approvals", "actuator-control", "actuator-undo"},
			Durables:  []Durable{{decisions, "actuator", bus.Decisions.Root}, {decisions, "actuator-approvals", bus.Approvals.Root}, {decisions, "actuator-undo", bus.Controls.Root}},
			Stores:    []bus.Bucket{bus.EvidenceBucket},
			Follows:   []Reading{{decisions, bus.Controls.Root}},
			Keeps:     []bus.Bucket{bus.ActionsBucket},
			Listens:   []bus.Bucket{bus.ObserversBucket},
		},
		{
			// Its own stream it reads with one consumer for each channel; which
			// channels there are is not for this table to know.
			Name: "notifier", Inbox: "notifier",
			Answers:   []string{"ready"},
			Publishes: []string{bus.Notifications.Root},
			Buttons:   []string{bus.Approvals.Root + ".>", bus.Controls.Root + "." + heal.Pause},
			Letters:   []string{"*"},
			Durables: []Durable{
				{results, "notifier", bus.Results.Root}, {notifications, "*", bus.Notifications.Root}, {failures, "notifier-failures", bus.Failures.Root},
				{decisions, "notifier-decisions", bus.Decisions.Root}, {decisions, "notifier-critical", bus.Decisions.Root + ".*.*." + string(heal.Critical)},
			},
			Keeps:   []bus.Bucket{bus.ConversationsBucket},
			Listens: []bus.Bucket{bus.ConversationsBucket, bus.SilencesBucket},
		},
		{
			Name: "operator", Inbox: "selfheal",
			Publishes: []string{bus.Approvals.Root, bus.Controls.Root},
			Follows:   []Reading{{failures, ""}, {decisions, ""}, {decisions, bus.Controls.Root}, {results, ""}, {notifications, ""}, {letters, ""}, {heal.StreamPrefix + "AUDIT", ""}},
			Inspects:  true,
			Copies:    []string{heal.StreamPrefix + "AUDIT"},
			Keeps:     []bus.Bucket{bus.SilencesBucket},
			Lists:     []bus.Bucket{bus.SilencesBucket, bus.ObserversBucket},
			Asks:      true,
		},
	}
}

// streams is every stream and bucket that the bus looks after.
func streams() []string {
	all := append(stages(), bus.DeadLetters.Stream, heal.StreamPrefix+"AUDIT")
	for _, b := range []bus.Bucket{bus.EpisodesBucket, bus.PositionsBucket, bus.ObserversBucket, bus.IncidentsBucket, bus.ActionsBucket, bus.ConversationsBucket, bus.SilencesBucket} {
		all = append(all, "KV_"+b.Name)
	}
	return append(all, "OBJ_"+bus.EvidenceBucket.Name)
}

func stages() []string {
	return []string{bus.Failures.Stream, bus.Decisions.Stream, bus.Results.Stream, bus.Notifications.Stream}
}

// A request is a subject that a client may publish to, in the streams'
// account; answers says that there may be many, buttons that it is only for
// answers by the buttons of messages.
type request struct {
	subject string
	answers bool
	buttons bool
}

// Every account has JetStream's API by the usual name, be it only to be told
// that it has no JetStream. So ours goes by another in the clients' accounts,
// and a mapping leads them there without their knowing.
const api, ours = "$JS.API.", "$SELFHEAL.API."

// local is r in the client's account.
func (r request) local() string {
	if rest, ok := strings.CutPrefix(r.subject, api); ok {
		return ours + rest
	}
	return r.subject
}

// only is how a line about r ends.
func (r request) only() string {
	if r.buttons {
		return ifButtons
	}
	return ""
}

// requests is everything that c may ask for.
func (c Client) requests() []request {
	var all []request
	one := func(format string, args ...any) { all = append(all, request{subject: fmt.Sprintf(format, args...)}) }
	many := func(format string, args ...any) {
		all = append(all, request{subject: fmt.Sprintf(format, args...), answers: true})
	}
	topic := func(root string) string {
		subject := heal.SubjectRoot + "." + clusterToken + "."
		if root != "" {
			subject += root + "."
		}
		return subject + ">"
	}
	consumer := func(stream, name, filter string) {
		one("$JS.API.CONSUMER.INFO.%s.%s", stream, name)
		one("$JS.API.CONSUMER.CREATE.%s.%s.%s", stream, name, filter)
		many("$JS.API.CONSUMER.MSG.NEXT.%s.%s", stream, name)
	}
	for _, s := range streams() {
		one("$JS.API.STREAM.INFO.%s", s)
		if c.Inspects {
			one("$JS.API.CONSUMER.LIST.%s", s)
		}
	}
	for _, root := range c.Publishes {
		one("%s", topic(root))
	}
	for _, word := range c.Says {
		one("%s.%s.%s.%s", heal.SubjectRoot, clusterToken, bus.Controls.Root, word)
	}
	for _, subject := range c.Buttons {
		all = append(all, request{subject: heal.SubjectRoot + "." + clusterToken + "." + subject, buttons: true})
	}
	for _, stage := range c.Letters {
		one("%s.%s.dlq.%s", heal.SubjectRoot, clusterToken, stage)
	}
	for _, d := range c.Durables {
		consumer(d.Stream, d.Name, topic(d.Topic))
		one("$JS.ACK.%s.%s.>", d.Stream, d.Name)
	}
	for _, f := range c.Follows {
		consumer(f.Stream, "*", topic(f.Topic))
	}
	for _, stream := range c.Scans {
		many("$JS.API.DIRECT.GET.%s", stream)
	}
	for _, stream := range c.Copies { // beside what following it takes
		one("$JS.API.CONSUMER.DELETE.%s.*", stream)
		one("$JS.FC.%s.>", stream)
	}
	for _, b := range c.Keeps {
		one("$KV.%s.>", b.Name)
		one("$JS.API.DIRECT.GET.KV_%[1]s.$KV.%[1]s.>", b.Name)
	}
	for _, b := range c.Stores {
		one("$O.%s.C.>", b.Name)
		one("$O.%s.M.>", b.Name)
	}
	for _, b := range c.Lists {
		one("$JS.API.CONSUMER.CREATE.KV_%[1]s.*.$KV.%[1]s.>", b.Name)
		one("$JS.API.CONSUMER.INFO.KV_%s.*", b.Name)
		one("$JS.API.CONSUMER.DELETE.KV_%s.*", b.Name)
		one("$JS.FC.KV_%s.>", b.Name)
	}
	for _, b := range c.Listens {
		consumer("KV_"+b.Name, "*", "$KV."+b.Name+".>")
	}
	seen := map[request]bool{} // two readings of a stream have much in common
	return slices.DeleteFunc(all, func(r request) bool {
		known := seen[r]
		seen[r] = true
		return known
	})
}

// Keeper makes the streams and mends them, beside the server, and drops from a
// stage that is nearly full what everybody has read. It is in their own account,
// with no right to delete one or to write, and none to read or to empty what is
// no stage: the audit and the buckets.
const Keeper = "keeper"

// keeps are what the keeper may ask for.
func keeps() []string {
	var all []string
	for _, s := range streams() {
		for _, verb := range []string{"INFO", "CREATE", "UPDATE"} {
			all = append(all, api+"STREAM."+verb+"."+s)
		}
	}
	for _, s := range stages() {
		all = append(all, api+"CONSUMER.LIST."+s, api+"DIRECT.GET."+s, api+"STREAM.PURGE."+s)
	}
	return all
}

// Names is everybody with a key to NATS.
func Names() []string {
	names := []string{"admin", Keeper}
	for _, c := range Clients() {
		names = append(names, c.Name)
	}
	return names
}

// Lines that end with ifButtons, and what stands between andButtons and the
// next comma, are only for answers by the buttons of messages. Fill and the
// chart's template read them.
const (
	ifButtons  = " # buttons"
	andButtons = "@BUTTONS@"
)

// Fill is NATS for a cluster, with or without answers by buttons, as the chart's
// template has it.
func Fill(cluster string, buttons bool) string {
	text := strings.ReplaceAll(string(NATS()), clusterToken, heal.Token(cluster))
	if buttons {
		return strings.ReplaceAll(text, andButtons, "")
	}
	text = regexp.MustCompile(`(?m)^.*`+ifButtons+`\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(andButtons+`[A-Z]+, `).ReplaceAllString(text, "")
}

// NATS is the accounts of nats-server, to be included in its configuration.
// The public keys come from its environment.
func NATS() []byte {
	answers, always := map[string]bool{}, map[string]bool{}
	users := map[string][]string{}
	for _, c := range Clients() {
		for _, r := range c.requests() {
			name := account(c.Name)
			if r.buttons {
				name = andButtons + name
			} else {
				always[r.subject] = true
			}
			answers[r.subject] = r.answers
			users[r.subject] = append(users[r.subject], name)
		}
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by `make generate` from the table of test/chart/rights; do not edit.")
	line("accounts {")
	line("  SYS {}")
	line("  # The streams. The administrator's key is read by nothing in the cluster; the keeper makes streams, and no more.")
	line("  %s {", home)
	line("    jetstream: enabled")
	line("    users: [")
	line("      { nkey: $ADMIN_NKEY }")
	line("      { nkey: $KEEPER_NKEY, permissions: {")
	line("        publish: { allow: [")
	for _, subject := range keeps() {
		line("          %q", subject)
	}
	line("        ] }")
	line("        subscribe: { allow: [%q] }", inbox(Client{Inbox: Keeper}))
	line("      } }")
	line("    ]")
	line("    exports: [")
	for _, subject := range slices.Sorted(maps.Keys(answers)) {
		response, only := "", ""
		if answers[subject] {
			response = ", response: stream"
		}
		if !always[subject] {
			only = ifButtons
		}
		line("      { service: %q%s, accounts: [%s] }%s", subject, response, strings.Join(users[subject], ", "), only)
	}
	for _, c := range Clients() {
		if len(c.Lists) > 0 { // these are pushed
			line("      { stream: %q, accounts: [%s] }", inbox(c), account(c.Name))
		}
	}
	line("    ]")
	line("  }")
	for _, c := range Clients() {
		line("  %s {", account(c.Name))
		line("    users: [ { nkey: $%s_NKEY, permissions: {", account(c.Name))
		line("      publish: { allow: [")
		for _, r := range c.requests() {
			line("        %q%s", r.local(), r.only())
		}
		asks := c.asks()
		for _, subject := range slices.Sorted(maps.Keys(asks)) {
			line("        %q", subject)
		}
		line("      ] }")
		if answers := c.answers(); len(answers) > 0 {
			line("      subscribe: { allow: [%q, %s] }", inbox(c), quoted(answers))
			line("      allow_responses: { max: 1, expires: \"15s\" }")
		} else {
			line("      subscribe: { allow: [%q] }", inbox(c))
		}
		line("    } } ]")
		if answers := c.answers(); len(answers) > 0 {
			line("    exports: [")
			for _, subject := range answers {
				response := ""
				if subject == discovery {
					response = ", response: stream"
				}
				line("      { service: %q%s, accounts: [%s] }", subject, response, askers())
			}
			line("    ]")
		}
		line("    mappings: { %q: %q }", api+">", ours+">")
		line("    imports: [")
		for _, r := range c.requests() {
			to := ""
			if r.local() != r.subject {
				to = fmt.Sprintf(", to: %q", r.local())
			}
			line("      { service: { account: %s, subject: %q }%s }%s", home, r.subject, to, r.only())
		}
		for _, subject := range slices.Sorted(maps.Keys(asks)) {
			for _, of := range asks[subject] {
				line("      { service: { account: %s, subject: %q } }", of, subject)
			}
		}
		if len(c.Lists) > 0 {
			line("      { stream: { account: %s, subject: %q } }", home, inbox(c))
		}
		line("    ]")
		line("  }")
	}
	line("}")
	return []byte(b.String())
}

func quoted(subjects []string) string {
	all := make([]string, len(subjects))
	for i, s := range subjects {
		all[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(all, ", ")
}

func account(name string) string { return strings.ToUpper(name) }

func inbox(c Client) string { return "_INBOX_" + c.Inbox + ".>" }
