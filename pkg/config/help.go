package config

import (
	"fmt"
	"strings"
)

// A Row is a setting as people and other command lines are told of it.
type Row struct {
	Key     string
	Flag    string // without the dashes; of a secret the flag takes a file
	Env     string // the contract's name
	Default string // perhaps in words
	Want    string // what is accepted
	Help    string // a sentence
	Secret  bool
	Switch  bool // the flag needs no value
}

// Rows is every setting, in the order of --help.
func Rows() []Row {
	var rows []Row
	for _, t := range table(new(Settings)) {
		rows = append(rows, Row{
			Key: t.key, Flag: t.flag(), Env: t.contractEnv(), Default: t.whatDefault(), Want: t.kind.want,
			Help: t.help, Secret: t.kind.secret, Switch: t.kind.flag,
		})
	}
	return rows
}

// Help is the part of --help that tells of the settings.
func Help() string {
	var b strings.Builder
	b.WriteString(`Settings, from the first of: command line, environment, directory, file, default.
The key in a file is the name of the flag with _ for -. Each environment name is
also read with the prefix SELFHEAL_, which wins. A secret comes from the
environment, or from a file that the name with _FILE, the key with _file or the
flag names; a whole directory of them may be mounted as --config-dir.

  --config FILE      SELFHEAL_CONFIG
        YAML file with settings.
  --config-dir DIR   SELFHEAL_CONFIG_DIR
        Mounted ConfigMap or Secret, one file per key.
`)
	for _, r := range Rows() {
		def, env := "", r.Env
		if r.Default != "" {
			def = "   default " + r.Default
		}
		if r.Secret {
			env += "[_FILE]"
		}
		fmt.Fprintf(&b, "  --%s   %s%s\n        %s\n        Accepted: %s.\n", r.Flag, env, def, r.Help, r.Want)
	}
	return b.String()
}

const preface = `# Settings

Generated from the table in ` + "`pkg/config`" + `; do not edit it, run ` + "`go test ./config -update` in `pkg`" + `. All four services
and the command line read the same settings, and each takes what it needs.

They come in layers, of which a later one wins: the defaults, a YAML file (` + "`--config`, `SELFHEAL_CONFIG`" + `), a mounted ConfigMap or
Secret with one file per key (` + "`--config-dir`, `SELFHEAL_CONFIG_DIR`" + `), the environment, flags (the key with ` + "`-` for `_`" + `). A bare integer
is seconds (` + "`30`), and `30s`" + ` works too. An unknown key or a wrong value is an error that names the key, the layer it came from and what was
probably meant, and nothing starts. Each environment name is also read with the prefix ` + "`SELFHEAL_`" + `, which wins. A secret comes from the environment or
a file, never from a flag, and prints as ` + "`***`" + `.

`

// Markdown is the page of the settings for the documentation.
func Markdown() string {
	var b strings.Builder
	b.WriteString(preface + "| key | environment | default | accepted | meaning |\n|---|---|---|---|---|\n")
	for _, r := range Rows() {
		def := "–"
		if r.Default != "" {
			def = "`" + r.Default + "`"
			if strings.Contains(r.Default, " ") {
				def = r.Default
			}
		}
		env := "`" + r.Env + "`"
		if r.Secret {
			env += ", `" + r.Env + "_FILE`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.Key, env, def, strings.ReplaceAll(r.Want, "|", `\|`), r.Help)
	}
	return b.String()
}
