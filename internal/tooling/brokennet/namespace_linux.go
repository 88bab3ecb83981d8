package brokennet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Enter moves the calling goroutine to a network of its own, which has a loopback interface only, and gives it an
// /etc/resolv.conf with these name servers. There, iptables drops what is sent to 127.0.1.0/24. The sockets that the
// goroutine opens and the processes that it starts belong to that network. Other goroutines are not affected, not even
// those that this one starts. It needs root, ip and iptables.
func Enter(nameServers ...string) error {
	runtime.LockOSThread() // for good: Go uses the thread for nothing else, also after the goroutine
	if err := syscall.Unshare(syscall.CLONE_NEWNET | syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("no network of its own: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("no mounts of its own: %w", err)
	}
	file, err := os.CreateTemp("", "resolv.conf")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // the mount keeps it
	_, err = file.WriteString("nameserver " + strings.Join(nameServers, "\nnameserver ") + "\n")
	return errors.Join(err, file.Close(),
		syscall.Mount(file.Name(), "/etc/resolv.conf", "", syscall.MS_BIND, ""),
		exec.Command("ip", "link", "set", "lo", "up").Run(),
		exec.Command("iptables", "-w", "-A", "INPUT", "-d", "127.0.1.0/24", "-j", "DROP").Run())
}
