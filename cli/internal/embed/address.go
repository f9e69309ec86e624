package embed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/selfheal/selfheal/cli/internal/lock"
)

// An Address is where a running server can be reached, and what it serves.
type Address struct {
	URL     string `json:"url"`
	Cluster string `json:"cluster"`
}

func addressFile(dir string) string { return filepath.Join(dir, "address.json") }

func writeAddress(dir string, a Address) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.WriteFile(addressFile(dir), data, 0o600); err != nil {
		return fmt.Errorf("embedded NATS: address: %w", err)
	}
	return nil
}

// removeAddress tidies up. An address that stays is not believed: see Find.
func removeAddress(dir string) { _ = os.Remove(addressFile(dir)) }

// Find returns the address of the server that runs in dir, or false if none
// does: what a server left behind that was killed does not count.
func Find(dir string) (Address, bool) {
	if lock.Holder(dir) == 0 {
		return Address{}, false
	}
	data, err := os.ReadFile(addressFile(dir))
	var a Address
	if err != nil || json.Unmarshal(data, &a) != nil || a.URL == "" {
		return Address{}, false
	}
	return a, true
}
