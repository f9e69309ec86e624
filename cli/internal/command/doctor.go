package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/cli/internal/doctor"
	"github.com/selfheal/selfheal/cli/internal/local"
	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/pkg/heal"
)

func doctorCommand() *cobra.Command {
	var r reader
	var o form
	var home string
	var namespaces []string
	var strict, without bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what keeps the system from healing, and how to mend it",
		Long: `doctor looks at NATS (version, clock, streams, who listens, how far behind), at
what the streams say (watchers' sight, pause, dead letters, channels), and asks the
API server whether the services' accounts have the rights that each strategy takes.
It changes nothing. Each finding that is not well says how to mend it.

  ok       as it should be
  unknown  it could not be looked at
  warn     it works, and not as it should
  fail     something cannot work

Exit code 0 without a fail, 1 with one; with --strict also for a warn.
` + operatorHelp,
		Example: `  selfheal doctor
  selfheal doctor --context production --nats-context production
  selfheal doctor -o json | jq '.findings[] | select(.level == "fail")'`,
		Args: noArgs,
	}
	r.flags(c)
	o.flag(c, asTable, asJSON)
	f := c.Flags()
	f.StringVar(&home, "home", heal.Product, "the namespace that the services run in")
	f.StringSliceVarP(&namespaces, "namespace", "n", nil, "namespaces in which the services must have their rights, if not in all")
	f.BoolVar(&strict, "strict", false, "exit code 1 for a warn as well")
	f.BoolVar(&without, "no-kubernetes", false, "do not ask the API server")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var findings []doctor.Finding
		err := r.connected(cmd, func(ctx context.Context) error {
			facts, err := overview.Gather(ctx, r.bus, time.Now().Add(-24*time.Hour))
			if err != nil {
				return err
			}
			var k *doctor.Kube
			if !without {
				k = r.examine(ctx, cmd, doctor.Query{Home: home, Namespaces: namespaces, Duties: doctor.Duties()})
			}
			findings = doctor.Judge(facts, k)
			return nil
		})
		if err != nil {
			return err
		}
		if o.value == asJSON {
			err = printJSON(cmd.OutOrStdout(), map[string]any{"findings": findings})
		} else {
			err = printFindings(cmd.OutOrStdout(), findings)
		}
		if err != nil {
			return err
		}
		for _, f := range findings {
			if f.Level == doctor.Fail || strict && f.Level == doctor.Warn {
				return errSilent
			}
		}
		return nil
	}
	return c
}

// examine asks the API server that the flags name.
func (r *reader) examine(ctx context.Context, cmd *cobra.Command, q doctor.Query) *doctor.Kube {
	config, err := r.apiServer(cmd)
	if err != nil {
		return &doctor.Kube{Err: err}
	}
	return doctor.Examine(ctx, config, q)
}

// apiServer is the cluster of the kubeconfig and context that the flags name.
func (r *reader) apiServer(cmd *cobra.Command) (*rest.Config, error) {
	settings, _, err := r.settings(cmd)
	if err != nil {
		return nil, err
	}
	return local.Config(settings.Kubeconfig, r.context, "selfheal-"+cmd.Name())
}

func printFindings(out io.Writer, findings []doctor.Finding) error {
	for _, f := range findings {
		text := fmt.Sprintf("%-8s %s: %s\n", f.Level, f.Check, heal.Clean(f.Says, 1024))
		if f.Mend != "" {
			text += fmt.Sprintf("%-8s → %s\n", "", f.Mend)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return nil
}
