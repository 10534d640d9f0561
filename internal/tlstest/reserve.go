package tlstest

import (
	"net/netip"
	"syscall"
)

// Reserve returns an address of the loopback at which nobody listens and which
// the system gives to nobody who asks for any free port, until the test ends.
// Connections are refused there, and a program that is told to listen at it
// can. A port that was only found free is somebody else's a moment later.
func Reserve(t TB) netip.AddrPort {
	t.Helper()
	addr, fd, err := reserve()
	if err != nil {
		t.Fatal("reserving a port: ", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return addr
}

// reserve binds a socket that never listens. As it allows others at its
// address, who names the port gets it.
func reserve() (addr netip.AddrPort, fd int, err error) {
	syscall.ForkLock.RLock()
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return addr, fd, err
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var at syscall.Sockaddr
	if err == nil {
		at, err = syscall.Getsockname(fd)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return addr, fd, err
	}
	port := at.(*syscall.SockaddrInet4).Port
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), fd, nil
}
