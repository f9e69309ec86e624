package outbound

import (
	"testing"
	"time"
)

func TestWhereWeConnect(t *testing.T) {
	for _, tt := range []struct {
		address string
		local   bool
		ok      bool
	}{
		{"203.0.113.7:443", false, true},
		{"10.0.0.7:443", false, true},
		{"127.0.0.1:443", false, false},
		{"169.254.169.254:443", false, false},
		{"[fd00:ec2::254]:443", false, false},
		{"100.100.100.200:443", false, false},
		{"[64:ff9b::a9fe:a9fe]:443", false, false},
		{"[::ffff:169.254.169.254]:443", false, false},
		{"127.0.0.1:443", true, true},
		{"203.0.113.7:443", true, false},
		{"nonsense", false, false},
	} {
		host := map[bool]string{true: "localhost", false: "machines.example"}[tt.local]
		if err := Dialer(host, Anywhere, time.Second).Control("tcp", tt.address, nil); (err == nil) != tt.ok {
			t.Errorf("%s (local %v): %v, want allowed %v", tt.address, tt.local, err, tt.ok)
		}
	}
}
