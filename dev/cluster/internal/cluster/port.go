package cluster

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// reservation holds a port of 127.0.0.1 for a server that is started, killed and started again. It is a socket that
// is bound but does not listen: with SO_REUSEPORT on both sides the server can bind too, nobody else can, and while
// no server listens a client is refused. So clusters started side by side never take each other's port.
type reservation struct {
	fd   int
	port int
}

// reserve takes the wanted port if it is free, else any.
func reserve(wanted int) (*reservation, error) {
	if wanted != 0 {
		if r, err := bind(wanted); err == nil {
			return r, nil
		}
	}
	r, err := bind(0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	return r, nil
}

func bind(port int) (*reservation, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if port != 0 {
		// A wanted port must be really free: without SO_REUSEPORT, bind also fails where another supervisor has it.
		// SO_REUSEADDR passes over connections of the server that was stopped a moment ago.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return nil, closing(fd, err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, closing(fd, err)
		}
		if err := unix.Close(fd); err != nil {
			return nil, err
		}
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return nil, err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return nil, closing(fd, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, closing(fd, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, closing(fd, err)
	}
	return &reservation{fd: fd, port: name.(*unix.SockaddrInet4).Port}, nil
}

func closing(fd int, err error) error {
	_ = syscall.Close(fd)
	return err
}

func (r *reservation) release() { _ = syscall.Close(r.fd) }
