package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A provision is what `selfheal provision` is told.
type provision struct {
	secrets        map[string]*string // by the folder of the keys: the Secret's name, or none
	dryRun, rotate bool
	installation
	form
}

func provisionCommand() *cobra.Command {
	p := provision{secrets: map[string]*string{natsKeys: new(string), signingKeys: new(string), peopleKeys: new(string)}}
	c := &cobra.Command{
		Use:   "provision",
		Short: "Make the keys of an installation, as Secrets in the cluster",
		Long: `provision makes what 'selfheal keys' makes, and keeps it in the cluster: the Secrets
NAME-nats (who may connect to NATS), NAME-signing (who may decide) and NAME-people
(the seeds of the operator and the administrator, which no pod of the chart reads,
except for the operator's that of 'helm test'). The chart runs it before each install
and upgrade.

What is there already is never written again: it adds the keys that are missing.
A pair of which one half is missing is left to a person. --rotate says how keys are
replaced. It needs the rights to get, create and patch these Secrets by their names.`,
		Example: `  selfheal provision --namespace self-healing
  selfheal provision --namespace self-healing --dry-run -o yaml
  kubectl -n self-healing get secret self-healing-people -o jsonpath='{.data.operator\.seed}' | base64 -d > operator.seed`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			if p.rotate {
				_, err := fmt.Fprint(cmd.OutOrStdout(), p.rotation())
				return err
			}
			client, err := p.client("selfheal-provision")
			if err != nil {
				return err
			}
			ctx, cancel := p.within(cmd.Context())
			defer cancel()
			return p.run(ctx, client.CoreV1().Secrets(p.namespace), cmd.OutOrStdout())
		},
	}
	p.flags(c, "Secrets", 30*time.Second)
	f := c.Flags()
	f.StringVar(p.secrets[natsKeys], "nats", "", "the Secret of the keys to NATS, - for none (default NAME-nats)")
	f.StringVar(p.secrets[signingKeys], "signing", "", "the Secret of the keys of decisions, - for none (default NAME-signing)")
	f.StringVar(p.secrets[peopleKeys], "people", "", "the Secret of the operator's and the administrator's seeds (default NAME-people)")
	f.BoolVar(&p.dryRun, "dry-run", false, "say what is missing, and with -o yaml print it to be applied; change nothing")
	f.BoolVar(&p.rotate, "rotate", false, "say how the keys are replaced; change nothing")
	p.flag(c, asTable, asYAML)
	for _, sub := range provisions {
		c.AddCommand(sub())
	}
	return c
}

// provisions is what else belongs to setting an installation up, and taking it down.
var provisions = []func() *cobra.Command{
	provisionStreamsCommand,
	provisionTestCommand,
	provisionRemoveCommand,
}

func (p *provision) check() error {
	if err := p.form.check(); err != nil {
		return err
	}
	if p.namespace == "" || p.name == "" {
		return usageError{errors.New("--namespace, --name: want both")}
	}
	if p.value == asYAML && !p.dryRun {
		return usageError{errors.New("-o yaml is for --dry-run: what is made is not shown")}
	}
	if p.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %s: want more than 0", p.timeout)}
	}
	for folder, name := range p.secrets {
		switch *name {
		case "":
			*name = p.name + "-" + folder
		case "-":
			*name = ""
		}
	}
	if *p.secrets[natsKeys] == "" {
		*p.secrets[peopleKeys] = "" // they are the other halves
	}
	return nil
}

// run reads the Secrets, finds out what they lack, and adds it.
func (p *provision) run(ctx context.Context, secrets typedcorev1.SecretInterface, out io.Writer) error {
	have := map[string]map[string][]byte{}
	for folder, name := range p.secrets {
		if *name == "" {
			continue
		}
		s, err := secrets.Get(ctx, *name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			have[folder] = map[string][]byte{}
		case err != nil:
			return fmt.Errorf("read secret %s/%s: %w", p.namespace, *name, err)
		default:
			have[folder] = cmp.Or(s, &corev1.Secret{}).Data
		}
	}
	lacks, err := missingKeys(have)
	if err != nil {
		return fmt.Errorf("the Secrets of %s in namespace %s: %w", p.name, p.namespace, err)
	}
	// The people's first: the halves that are kept by people cannot be made again.
	for _, folder := range []string{peopleKeys, natsKeys, signingKeys} {
		if len(lacks[folder]) == 0 {
			continue
		}
		if err := p.add(ctx, secrets, *p.secrets[folder], lacks[folder], out); err != nil {
			return err
		}
	}
	if len(lacks) == 0 && p.value != asYAML {
		_, err = fmt.Fprintf(out, "every key of %s in namespace %s is there already\n", p.name, p.namespace)
	}
	return err
}

// add adds keys to a Secret, which it makes if need be. It applies them under a
// name that nobody had before, and without force, so that whatever somebody
// else has written meanwhile is a conflict and stays; and because an apply is
// the one way to create for which a right can be given by name.
func (p *provision) add(ctx context.Context, secrets typedcorev1.SecretInterface, name string, keys map[string][]byte, out io.Writer) error {
	if p.dryRun && p.value == asYAML {
		s := corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace, Labels: ofProduct},
			Type:       corev1.SecretTypeOpaque, Data: keys,
		}
		if _, err := io.WriteString(out, "---\n"); err != nil {
			return err
		}
		return printYAML(out, s)
	}
	said := "would get"
	if !p.dryRun {
		said = "has got"
		config := corev1ac.Secret(name, p.namespace).WithLabels(ofProduct).WithType(corev1.SecretTypeOpaque).WithData(keys)
		_, err := secrets.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "selfheal-provision-" + strings.ToLower(randomText()[:8])})
		if apierrors.IsConflict(err) {
			return fmt.Errorf("secret %s/%s: somebody else has written it at the same time, and what they wrote stays; run this again", p.namespace, name)
		}
		if err != nil {
			return fmt.Errorf("write secret %s/%s: %w", p.namespace, name, err)
		}
	}
	_, err := fmt.Fprintf(out, "secret %s/%s %s %s\n", p.namespace, name, said, strings.Join(slices.Sorted(maps.Keys(keys)), " "))
	return err
}

var ofProduct = map[string]string{"app.kubernetes.io/part-of": heal.Product}

// rotation says how keys are replaced, with the Secrets' names in place.
func (p *provision) rotation() string {
	return fmt.Sprintf(`The pair of which one half signs decisions, without a restart and without a decision lost:

  selfheal keys --dir next
  kubectl -n %[1]s patch secret %[2]s -p "{\"data\":{\"next.pub\":\"$(base64 -w0 < next/signing/decisions.pub)\"}}"
  helm upgrade ... --reuse-values --set 'signing.trustedKeys={decisions.pub,next.pub}'
  # when /status of every actuator shows two trusted_keys:
  kubectl -n %[1]s patch secret %[2]s -p "{\"data\":{\"decisions.key\":\"$(base64 -w0 < next/signing/decisions.key)\"}}"
  # five minutes later, when no decision of the old key can be carried out any more:
  kubectl -n %[1]s patch secret %[2]s -p "{\"data\":{\"decisions.pub\":\"$(base64 -w0 < next/signing/decisions.pub)\"}}"
  helm upgrade ... --reuse-values --set 'signing.trustedKeys={decisions.pub}'

One client's key to NATS, such as the notifier's: take both halves away, and have them
made anew. The services wait without NATS meanwhile, and lose nothing:

  kubectl -n %[1]s patch secret %[3]s --type json -p '[{"op":"remove","path":"/data/notifier.seed"},{"op":"remove","path":"/data/notifier.pub"}]'
  selfheal provision -n %[1]s --name %[5]s
  kubectl -n %[1]s rollout restart statefulset %[5]s-nats deployment %[5]s-notifier

The operator's and the administrator's: the same, with operator.pub in %[3]s and
operator.seed in %[4]s.
`, p.namespace, orNone(*p.secrets[signingKeys]), orNone(*p.secrets[natsKeys]), orNone(*p.secrets[peopleKeys]), p.name)
}

func orNone(name string) string { return cmp.Or(name, "(none)") }
