package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/services/analyzer"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, test and compare policies",
		Long: `policy works on the files of policies, and needs no cluster: lint says what is wrong
with one, test judges failures by it, diff compares two. docs/policy.md is about
what a policy can say; deploy/policies holds some that are ready. How a policy would
have done on what was recorded, 'selfheal simulate' says.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(policyLintCommand(), policyTestCommand(), policyDiffCommand())
	return c
}

func policyLintCommand() *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Say what is wrong with policies, with the line",
		Long: `lint reads policies as strictly as the analyzer does, and names every mistake with
its line and what was probably meant. It also remarks on what a policy may say, but
hardly anybody means: a rule that never counts, a window that is always.

Exit code 0: all can be used. 1: one cannot, or with --strict there was a remark.`,
		Example: `  selfheal policy lint policy.yaml
  selfheal policy lint --strict deploy/policies/*.yaml`,
	}
	c.Flags().BoolVar(&strict, "strict", false, "take remarks for mistakes")
	c.RunE = func(cmd *cobra.Command, files []string) error {
		if len(files) == 0 {
			return usageError{errors.New("lint what? Give the files of policies")}
		}
		bad := false
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return usageError{err}
			}
			if isTrial(file) {
				if _, err := analyzer.ParseTrial(data); err != nil {
					bad = true
					printMistakes(cmd, file, err)
				}
				continue
			}
			p, remarks, err := analyzer.LintPolicy(data)
			if err != nil {
				bad = true
				printMistakes(cmd, file, err)
				continue
			}
			for _, r := range remarks {
				bad = bad || strict
				say(cmd, "%s: remark: %s\n", file, r)
			}
			say(cmd, "%s: policy %s can be used, revision %s\n", file, p.Ref("").Name, p.Ref("").Revision)
		}
		if bad {
			return errSilent
		}
		return nil
	}
	return c
}

// printMistakes prints what is wrong with a file, one thing on a line.
func printMistakes(cmd *cobra.Command, file string, err error) {
	for text := range strings.SplitSeq(err.Error(), "\n") {
		say(cmd, "%s: %s\n", file, text)
	}
}

// isTrial tells files of tests from policies by their names.
func isTrial(file string) bool {
	return strings.HasSuffix(strings.TrimSuffix(file, filepath.Ext(file)), "_test")
}

func policyTestCommand() *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use:   "test FILE...",
		Short: "Judge the failures of test files by their policies",
		Long: `test reads files of tests, judges the failures in them by the same code as the
analyzer, and prints every decision that is not as wanted, with its steps. The
policy is the file that the tests name, or else the one of the same name without
"_test", beside them; given a policy, it takes the tests beside that.

  # checkout_test.yaml, beside checkout.yaml
  tests:
  - name: the third crash within the hour is not restarted once more
    at: "2026-01-05T12:00:00+01:00"   # default: a Monday at noon, UTC
    mode: auto                        # of the analyzer; the default
    before:                           # what happened until then
    - {ago: 40m, times: 2, every: 10m, result: failed}
    given: {type: pod_failure, reason: CrashLoopBackOff, namespace: shop, owner: Deployment/checkout}
    want: {strategy: recreate, severity: high, acts: true}

Exit code 0: all are as wanted. 1: one is not.`,
		Example: `  selfheal policy test policy_test.yaml
  selfheal policy test deploy/policies/*_test.yaml`,
	}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "print what passes as well")
	c.RunE = func(cmd *cobra.Command, files []string) error {
		if len(files) == 0 {
			return usageError{errors.New("test what? Give files of tests")}
		}
		passed, failed := 0, 0
		for _, file := range files {
			good, bad, err := runTrial(cmd, file, verbose)
			if err != nil {
				return err
			}
			passed, failed = passed+good, failed+bad
		}
		if failed > 0 {
			say(cmd, "FAIL: %d of %s\n", failed, counted(passed+failed, "test"))
			return errSilent
		}
		say(cmd, "ok: %s\n", counted(passed, "test"))
		return nil
	}
	return c
}

// runTrial runs one file of tests.
func runTrial(cmd *cobra.Command, file string, verbose bool) (passed, failed int, err error) {
	if !isTrial(file) {
		ext := filepath.Ext(file)
		file = strings.TrimSuffix(file, ext) + "_test" + ext
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, usageError{err}
	}
	trial, err := analyzer.ParseTrial(data)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", file, err)
	}
	of := trial.Policy
	if of == "" {
		ext := filepath.Ext(file)
		of = strings.TrimSuffix(filepath.Base(file), "_test"+ext) + ext
	}
	if of != builtIn && !filepath.IsAbs(of) {
		of = filepath.Join(filepath.Dir(file), of)
	}
	p, err := policyOf(of)
	if err != nil {
		return 0, 0, err
	}
	for _, v := range analyzer.Try(p, trial) {
		if len(v.Wrong) == 0 {
			passed++
			if verbose {
				say(cmd, "ok    %s: %s\n", file, v.Name)
			}
			continue
		}
		failed++
		say(cmd, "FAIL  %s: %s\n", file, v.Name)
		for _, w := range v.Wrong {
			say(cmd, "  - %s: %s\n  + %s: %s\n", w.What, w.Want, w.What, w.Got)
		}
		for _, step := range v.Got.Explanation.Steps {
			say(cmd, "      %s\n", step)
		}
	}
	return passed, failed, nil
}

func policyDiffCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Say what one policy says otherwise than another",
		Long: `diff compares two policies as they count, whatever they leave to the built-in one and
however they are written. Either may be "built-in".

Exit code 0: they say the same. 1: they do not.`,
		Example: `  selfheal policy diff policy.yaml candidate.yaml
  selfheal policy diff built-in policy.yaml`,
	}
	c.RunE = func(cmd *cobra.Command, files []string) error {
		if len(files) != 2 {
			return usageError{fmt.Errorf("want two policies to compare, got %d", len(files))}
		}
		a, err := policyOf(files[0])
		if err != nil {
			return err
		}
		b, err := policyOf(files[1])
		if err != nil {
			return err
		}
		changes := analyzer.DiffPolicies(a, b)
		if len(changes) == 0 {
			say(cmd, "%s and %s say the same\n", files[0], files[1])
			return nil
		}
		for _, change := range changes {
			say(cmd, "%s\n", inert(change.String()))
		}
		return errSilent
	}
	return c
}

// say prints to the command's output.
func say(cmd *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), format, args...) // who closed the pipe has read enough
}
