package demo

import "syscall"

// childAttributes make a child end with us, and keep the terminal's Ctrl-C
// from it: we stop our children in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// silence points standard output and error nowhere, so that whoever waits for
// their end does not wait for us.
func silence(null int) error {
	for fd := 1; fd <= 2; fd++ {
		if err := syscall.Dup3(null, fd, 0); err != nil {
			return err
		}
	}
	return nil
}
