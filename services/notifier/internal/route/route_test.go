package route_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

var everybody = []route.Listener{
	{Channel: "slack", To: "#monitoring", Audience: route.Monitoring},
	{Channel: "slack", To: "#incidents", Audience: route.Incident},
	{Channel: "email", Audience: route.Incident},
	{Channel: "pagerduty", Audience: route.OnCall},
	{Channel: "webhook", Audience: route.Record},
}

func names(listeners []route.Listener) []string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Channel+l.To)
	}
	return all
}

func TestResultsGoWhereTheContractSays(t *testing.T) {
	watched := sample.Watched()
	moot := sample.At(heal.Critical, "moot")
	moot.Outcome, moot.Reason = heal.Skipped, heal.ReasonRecovered
	for name, test := range map[string]struct {
		listeners    []route.Listener
		result       heal.Result
		age          time.Duration
		told, spared []string
	}{
		"low":      {everybody, sample.At(heal.Low, "a"), 0, []string{"slack#monitoring", "webhook"}, nil},
		"medium":   {everybody, sample.At(heal.Medium, "a"), 0, []string{"slack#monitoring", "webhook"}, nil},
		"high":     {everybody, sample.At(heal.High, "a"), 0, []string{"slack#incidents", "email", "webhook"}, nil},
		"critical": {everybody, sample.At(heal.Critical, "a"), 0, []string{"slack#incidents", "email", "pagerduty", "webhook"}, nil},

		"not worth telling": {everybody, moot, 0, []string{"webhook"}, []string{"slack#incidents", "email", "pagerduty"}},
		"watched":           {everybody, watched, 0, []string{"slack#monitoring", "webhook"}, nil},
		"a day old":         {everybody, sample.Healed(), 24 * time.Hour, []string{"slack#incidents", "email", "webhook"}, nil},
		"older":             {everybody, sample.Healed(), 24*time.Hour + 1, []string{"webhook"}, []string{"slack#incidents", "email"}},
		"only slack":        {everybody[:2], sample.Healed(), 0, []string{"slack#incidents"}, nil},
		"nobody":            {nil, sample.Healed(), 0, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			told, spared := route.Route(test.listeners, test.result, test.age)
			if diff := cmp.Diff(test.told, names(told)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.spared, names(spared)); diff != "" {
				t.Errorf("spared (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPeopleHearWhatWasDoneAndOnceWhatWasNot(t *testing.T) {
	with := func(r heal.Result, change func(*heal.Result)) heal.Result {
		change(&r)
		return r
	}
	skipped := func(reason string) func(*heal.Result) {
		return func(r *heal.Result) { r.Outcome, r.Reason = heal.Skipped, reason }
	}
	again := func(r *heal.Result) { r.Decision.Failure.Occurrence = 2 }
	live := func(r *heal.Result) { r.Decision.Guards = nil }
	joined := func(r *heal.Result) { r.Decision.IncidentID = "i-of-another-failure" }
	for name, test := range map[string]struct {
		result heal.Result
		want   bool
	}{
		"healed":                        {sample.Healed(), true},
		"healed at a later occurrence":  {with(sample.Healed(), again), true},
		"healed within an old incident": {with(sample.Healed(), joined), true},
		"failed":                        {sample.Drained(), true},
		"not known to have helped":      {sample.Unproven(), true},
		"refused by the live cluster":   {with(sample.Refused(), live), true},
		"refused by it again":           {with(with(sample.Refused(), live), again), true},
		"vetoed":                        {sample.Refused(), true},
		"vetoed again":                  {with(sample.Refused(), again), false},
		"vetoed within an old incident": {with(sample.Refused(), joined), false},

		"recovery under way":        {with(sample.Watched(), func(r *heal.Result) { r.Decision.Reason = heal.ReasonRecoveryUnderWay }), false},
		"superseded":                {with(sample.Watched(), func(r *heal.Result) { r.Decision.Reason = heal.ReasonSuperseded }), false},
		"recovered":                 {with(sample.Healed(), skipped(heal.ReasonRecovered)), false},
		"target gone":               {with(sample.Healed(), skipped("TargetGone")), false},
		"moot for any other reason": {with(sample.Healed(), skipped("PausedMeanwhile")), false},

		"given up":       {with(sample.Refused(), skipped(heal.ReasonGivenUp)), true},
		"given up again": {with(with(sample.Refused(), skipped(heal.ReasonGivenUp)), again), true},

		"proposal":                        {sample.Proposed(), true},
		"proposal at a later occurrence":  {with(sample.Proposed(), again), false},
		"proposal within an old incident": {with(sample.Proposed(), joined), false},
		"watched":                         {sample.Watched(), true},
		"watched at a later occurrence":   {with(sample.Watched(), again), false},
		"dry run":                         {sample.Tried(), true},
		"dry run at a later occurrence":   {with(sample.Tried(), again), false},
		"dry run within an old incident":  {with(sample.Tried(), joined), false},
		"vetoed and skipped":              {with(sample.Refused(), skipped("Storm")), true},
		"vetoed and skipped later":        {with(with(sample.Refused(), skipped("Storm")), again), false},
	} {
		if got := route.WorthTelling(test.result); got != test.want {
			t.Errorf("%s: worth telling: %t, want %t", name, got, test.want)
		}
	}
}
