package policy

import "github.com/selfheal/selfheal/pkg/heal"

// badCommand keeps from restarting containers whose command cannot be run at
// all: it is not executable (126), not found (127), or refused by the runtime
// (128). It is so in every pod of the same template.
func badCommand(c Case, s heal.Strategy) (heal.Strategy, string, string, bool) {
	why, found := badExits[c.Failure.Metadata["exit_code"]]
	return heal.Monitor, reasonRestartNeverCures, why, found && s != heal.Monitor && c.Failure.Type == heal.PodFailure
}

var badExits = map[string]string{
	"126": "no restart makes the container's command executable (exit 126); the image or the command must be corrected, or rolled back",
	"127": "no restart finds the container's command (exit 127); the image or the command must be corrected, or rolled back",
	"128": "no restart makes the runtime start the container's command (exit 128); the image or the command must be corrected, or rolled back",
}
