package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func keysCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys of an installation, as files",
		Long: `keys makes what an installation needs to know its own from strangers: a key to
NATS for each service, and the pair of which one half signs decisions and the other
is trusted. Each folder is a Secret, each file a key of it. What is there already is
never written again, so that it also adds what is missing. The chart has this done in
the cluster ('selfheal provision') unless provision.enabled is false.

  nats/      who may connect to the bundled NATS server (nats.keysSecret)
  signing/   who may decide (signing.keysSecret)
  people/    the seeds of the operator and the administrator; keep them out of
             the cluster`,
		Example: `  selfheal keys --dir keys
  kubectl -n self-healing create secret generic self-healing-nats --from-file keys/nats
  kubectl -n self-healing create secret generic self-healing-signing --from-file keys/signing
  helm install self-healing deploy/helm/self-healing -n self-healing --set provision.enabled=false`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usageError{errors.New("--dir is empty: want the folder to write to")}
			}
			made, err := makeKeys(dir)
			for _, name := range made {
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, name))
			}
			if err == nil && len(made) == 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s has every key already\n", dir)
			}
			return err
		},
	}
	c.Flags().StringVar(&dir, "dir", "keys", "`folder` to write to")
	return c
}

// makeKeys writes the keys that are missing in dir, and returns their names.
func makeKeys(dir string) (made []string, err error) {
	w := writer{dir: dir}
	for _, folder := range []string{natsKeys, signingKeys, peopleKeys} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	for _, k := range keyPairs() {
		public := ""
		if k.public != (spot{}) {
			public = k.public.String()
		}
		w.pair(k.private.String(), public, k.make)
	}
	return w.made, w.err
}

// A writer writes files that are not there yet, until an error.
type writer struct {
	dir  string
	made []string
	err  error
}

// pair makes a pair of files, or one if public is empty. Half a pair is an
// error: a new one would not fit what somebody uses.
func (w *writer) pair(private, public string, make func() (secret, open []byte, err error)) {
	if w.err != nil {
		return
	}
	there, also := w.has(private), public == "" || w.has(public)
	if there && also {
		return
	}
	if w.err == nil && public != "" && there != also {
		w.err = fmt.Errorf("%s: of %s and %s only one is there; put the other back, or move it away to make both anew", w.dir, private, public)
	}
	if w.err != nil {
		return
	}
	secret, open, err := make()
	if err != nil {
		w.err = err
		return
	}
	w.put(private, secret)
	if public != "" {
		w.put(public, open)
	}
}

func (w *writer) has(name string) bool {
	_, err := os.Lstat(filepath.Join(w.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.err = errors.Join(w.err, err)
	}
	return err == nil
}

// put writes a file that must not be there.
func (w *writer) put(name string, data []byte) {
	if w.err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		w.err = err
		return
	}
	_, err = f.Write(data)
	if w.err = errors.Join(err, f.Close()); w.err == nil {
		w.made = append(w.made, name)
	}
}
