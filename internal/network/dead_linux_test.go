package network

import (
	"errors"
	"syscall"
	"testing"
)

// kill makes an address dead until the end of the test: nothing responds to a SYN.
func kill(t *testing.T, ip [4]byte, port int) {
	t.Helper()
	address := &syscall.SockaddrInet4{Addr: ip, Port: port}
	listener, listenerErr := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	client, clientErr := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	t.Cleanup(func() { _, _ = syscall.Close(listener), syscall.Close(client) })
	err := errors.Join(listenerErr, clientErr, syscall.Bind(listener, address), syscall.Listen(listener, 0))
	if err == nil {
		err = syscall.Connect(client, address) // takes the only place in the listener's queue
	}
	if err != nil {
		t.Fatal(err)
	}
}
