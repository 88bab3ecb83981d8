package incode

import "syscall"

// established asks the kernel whether the peer has neither closed nor reset the
// connection. TCP's state tells it at once, where a read of one byte (MSG_PEEK)
// would find what TLS sends before it closes and take it for life.
func established(raw syscall.RawConn) bool {
	const tcpEstablished = 1 // include/net/tcp_states.h
	var info int
	var err error
	if raw.Control(func(fd uintptr) {
		// The first byte of struct tcp_info is the state; amd64 and arm64, which
		// Lambda has, are little-endian.
		info, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
	}) != nil || err != nil {
		return false
	}
	return info&0xff == tcpEstablished
}
