// Package dashboard is the Grafana dashboards as code. What it builds is
// checked in under deploy/grafana and beside the chart, written by `make
// generate`, and held to that by a test.
//
// All of them choose their data source and clusters by variables, refer to each
// other by the tag, and draw rates over $__rate_interval, so they fit any
// scrape interval. They use nothing but what the services themselves measure,
// and no recording rule, so they work without any of ours.
package dashboard

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// all is every dashboard, in the order in which one looks at them.
var all = []board{overview, pipeline, actions, notifications, messaging}

// A board is one dashboard.
type board struct {
	name        string // of the file; with the prefix "self-healing-" the uid, which links from outside depend on
	title       string
	description string
	rows        []row
}

type row struct {
	title  string
	panels []panel
}

// A panel is one of a dashboard. In its expressions @ stands for the matchers
// that the variables give.
type panel struct {
	kind        kind
	title       string
	description string
	unit        string
	width       uint32 // of 24
	queries     []query
	alarm       float64 // of a number: red from here on, else green; 0: one colour
	low         bool    // of a number: red below alarm instead
	alert       string  // the alert that watches the same, whose runbook is linked
}

type query struct{ expr, legend string }

type kind int

const (
	graph  kind = iota // over time
	bars               // the same, stacked: parts of a whole
	number             // now
	list               // a table of the whole range
)

const (
	tag      = "self-healing"
	project  = "https://github.com/selfheal/selfheal"
	matchers = `cluster=~"$cluster"`
)

// Deployed is every file below the folder deploy that derives from the
// dashboards here and the alerts there, by its path in that folder. Helm reads
// nothing outside of a chart, so the chart has copies.
func Deployed(deploy string) (map[string][]byte, error) {
	chart := filepath.Join("helm", "self-healing", "files")
	rules, err := os.ReadFile(filepath.Join(deploy, "prometheus", "rules.yaml"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{filepath.Join(chart, "rules.yaml"): rules}
	for _, b := range all {
		built, err := b.build()
		if err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", b.name, err)
		}
		data, err := json.MarshalIndent(built, "", " ")
		if err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", b.name, err)
		}
		data = append(data, '\n')
		files[filepath.Join("grafana", b.name+".json")] = data
		files[filepath.Join(chart, "dashboards", b.name+".json")] = data
	}
	return files, nil
}

// build makes it in the schema that every Grafana reads; only newer ones read
// the one that the library would rather have.
func (b board) build() (dashboard.Dashboard, error) { //nolint:staticcheck // see above
	begun := dashboard.NewDashboardBuilder("Self-healing / " + b.title) //nolint:staticcheck // see above
	to := begun.
		Uid(tag+"-"+b.name).
		Description(b.description).
		Tags([]string{tag}).
		Timezone("browser").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Time("now-6h", "now").
		Refresh("30s").
		Readonly().
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(dashboard.NewQueryVariableBuilder("cluster").Label("Cluster").
			Description("The label cluster that your Prometheus gives; without one, All shows everything.").
			Datasource(source()).
			Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(self_healing_build_info, cluster)")}).
			Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
			Sort(dashboard.VariableSortAlphabeticalAsc).
			Multi(true).IncludeAll(true).AllValue(".*")).
		Annotation(dashboard.NewAnnotationQueryBuilder().
			Name("Paused").Datasource(source()).Enable(true).IconColor("orange").
			Target(prometheus.NewDataqueryBuilder().RefId("Paused").Range().Expr(expression(`max by (cluster) (self_healing_paused{@}) > 0`))).
			Expr(expression(`max by (cluster) (self_healing_paused{@}) > 0`)).Step("60s").
			TitleFormat("Acting is paused").TextFormat("`selfheal resume` ends that")).
		Link(dashboard.NewDashboardLinkBuilder("Self-healing").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{tag}).AsDropdown(true).IncludeVars(true).KeepTime(true)).
		Link(dashboard.NewDashboardLinkBuilder("Runbooks").Type(dashboard.DashboardLinkTypeLink).
			Url(runbook("")).TargetBlank(true))
	for _, r := range b.rows {
		to.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			to.WithPanel(p.build())
		}
	}
	return to.Build()
}

func (p panel) build() cog.Builder[dashboard.Panel] {
	links := []cog.Builder[dashboard.DashboardLink]{}
	if p.alert != "" {
		links = append(links, dashboard.NewDashboardLinkBuilder("Runbook: "+p.alert).Type(dashboard.DashboardLinkTypeLink).
			Url(runbook(p.alert)).TargetBlank(true))
	}
	switch p.kind {
	case number:
		return stat.NewPanelBuilder().Title(p.title).Description(p.description).Links(links).Datasource(source()).
			Unit(p.unit).Span(p.width).Height(4).Targets(p.targets()).NoValue("–").
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
			GraphMode(common.BigValueGraphModeArea).
			ColorMode(common.BigValueColorModeValue).
			ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
			Thresholds(p.thresholds())
	case list:
		return table.NewPanelBuilder().Title(p.title).Description(p.description).Links(links).Datasource(source()).
			Unit(p.unit).Span(p.width).Height(8).Targets(p.targets()).Decimals(0).
			WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{"excludeByName": map[string]any{"Time": true}}}).
			SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName("Value").Desc(true)})
	default:
		to := timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Links(links).Datasource(source()).
			Unit(p.unit).Span(p.width).Height(8).Targets(p.targets()).Min(0).
			ShowPoints(common.VisibilityModeNever).FillOpacity(10).LineWidth(1).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
				Placement(common.LegendPlacementBottom).Calcs([]string{"lastNotNull", "max"}))
		if p.kind == bars {
			to.FillOpacity(60).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
		}
		return to
	}
}

func (p panel) targets() []cog.Builder[variants.Dataquery] {
	targets := make([]cog.Builder[variants.Dataquery], 0, len(p.queries))
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Datasource(source()).
			Expr(expression(q.expr)).LegendFormat(q.legend).Range()
		if p.kind == list {
			target.Instant().Format(prometheus.PromQueryFormatTable)
		}
		targets = append(targets, target)
	}
	return targets
}

func (p panel) thresholds() cog.Builder[dashboard.ThresholdsConfig] {
	below, above := "green", "red"
	if p.low {
		below, above = above, below
	}
	steps := []dashboard.Threshold{{Color: below}, {Value: &p.alarm, Color: above}}
	if p.alarm == 0 {
		steps = []dashboard.Threshold{{Color: "text"}}
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func expression(text string) string { return strings.ReplaceAll(text, "@", matchers) }

func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// runbook is where the page of an alert is; of none, where they all are.
func runbook(alert string) string {
	if alert == "" {
		return project + "/tree/main/docs/runbooks"
	}
	return project + "/blob/main/docs/runbooks/" + alert + ".md"
}

// quantiles are two of a histogram, and all of it, by a label.
func quantiles(histogram, by string) []query {
	var queries []query
	for _, q := range []string{"0.5", "0.99"} {
		percent := map[string]string{"0.5": "half within", "0.99": "99 % within"}[q]
		queries = append(queries, query{
			fmt.Sprintf("histogram_quantile(%s, sum by (%s, le) (rate(%s_bucket{@}[$__rate_interval])))", q, by, histogram),
			fmt.Sprintf("{{%s}}: %s", by, percent),
		})
	}
	return queries
}

const (
	perSecond = "ops"
	seconds   = units.Seconds
	count     = units.Short
	share     = units.PercentUnit
)
