//go:build unix && !linux

package demo

import "syscall"

// childAttributes keep the terminal's Ctrl-C from a child: we stop our
// children in order. Only Linux can end them with us whatever happens.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// silence points standard output and error nowhere, so that whoever waits for
// their end does not wait for us.
func silence(null int) error {
	for fd := 1; fd <= 2; fd++ {
		if err := syscall.Dup2(null, fd); err != nil {
			return err
		}
	}
	return nil
}
