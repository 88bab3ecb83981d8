package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"omnistart/internal/tooling/brokennet"
)

// resolveWith makes Dial ask name servers at these addresses, in this order, until the end of the test. It returns the
// number of exchanges that have begun.
func resolveWith(t *testing.T, servers ...string) *atomic.Int32 {
	t.Helper()
	original, exchanges := net.DefaultResolver, &atomic.Int32{}
	t.Cleanup(func() { net.DefaultResolver = original })
	net.DefaultResolver = &net.Resolver{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		i := int(exchanges.Add(1)) - 1
		return new(net.Dialer).DialContext(ctx, network, servers[i%len(servers)])
	}}
	return exchanges
}

// serveDNS returns the address of a name server.
func serveDNS(t *testing.T, respond func(dnsmessage.Message) []byte) string {
	t.Helper()
	c, err := brokennet.ServeDNS("127.0.0.1:0", respond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func answer(ips ...[4]byte) func(dnsmessage.Message) []byte {
	return func(m dnsmessage.Message) []byte { return brokennet.Answer(m, ips...) }
}

func noResponse(dnsmessage.Message) []byte { return nil }

// local is where listen listens.
var local = [4]byte{127, 0, 0, 1}

func listen(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// checkDial expects a connection to local.
func checkDial(ctx context.Context, t *testing.T, port int) {
	t.Helper()
	c, err := Dial(ctx, "tcp", fmt.Sprintf("incode.example.:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("connected to %v", c.RemoteAddr())
	}
}

func TestDialTriesAllAddresses(t *testing.T) {
	for _, tt := range []struct {
		refusing, dead int
	}{
		{0, 0}, {2, 0}, {0, 2}, {1, 1}, {0, 7},
		{0, 12}, // shorter delays, so that all are tried in 3 seconds
	} {
		t.Run(fmt.Sprintf("%d refuse, %d are dead", tt.refusing, tt.dead), func(t *testing.T) {
			port := listen(t)
			var ips [][4]byte
			for i := range tt.refusing {
				ips = append(ips, [4]byte{127, 0, 2, byte(i + 1)})
			}
			for i := range tt.dead {
				ip := [4]byte{127, 0, 1, byte(i + 1)}
				kill(t, ip, port)
				ips = append(ips, ip)
			}
			resolveWith(t, serveDNS(t, answer(append(ips, local)...)))
			checkDial(t.Context(), t, port)
		})
	}
}

func TestDialFailsWithTheErrorOfAnAddress(t *testing.T) {
	resolveWith(t, serveDNS(t, answer([4]byte{127, 0, 2, 1}, local)))
	_, err := Dial(t.Context(), "tcp", "incode.example.:1") // a port where nothing listens
	if err == nil || !strings.HasSuffix(err.Error(), ":1: connect: connection refused") ||
		Redact(err) != err { //nolint:errorlint // the same error
		t.Errorf("got %v", err)
	}
}

func TestDialFailsWithTheErrorOfTheLookup(t *testing.T) {
	resolveWith(t, serveDNS(t, func(m dnsmessage.Message) []byte {
		m.RCode = dnsmessage.RCodeNameError
		return brokennet.Pack(m)
	}))
	_, err := Dial(t.Context(), "tcp", "incode.example.:443")
	if err == nil || !strings.HasPrefix(err.Error(), "dial tcp: lookup incode.example.") ||
		!strings.HasSuffix(err.Error(), "no such host") || Redact(err) != err { //nolint:errorlint // the same error
		t.Errorf("got %v", err)
	}
}

func TestDialNeedsOneAnswerOnly(t *testing.T) {
	slow := func(m dnsmessage.Message) []byte { time.Sleep(time.Second); return brokennet.Answer(m, local) }
	for name, tt := range map[string]struct {
		servers   []func(dnsmessage.Message) []byte
		exchanges int32
	}{
		"all packets arrive":       {[]func(dnsmessage.Message) []byte{answer(local)}, 1},
		"a lost packet":            {[]func(dnsmessage.Message) []byte{noResponse, answer(local)}, 2},
		"slow name servers":        {[]func(dnsmessage.Message) []byte{slow}, 2},
		"a lost and a slow answer": {[]func(dnsmessage.Message) []byte{noResponse, slow}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			port := listen(t)
			var addresses []string
			var others atomic.Int32
			for _, respond := range tt.servers {
				addresses = append(addresses, serveDNS(t, func(m dnsmessage.Message) []byte {
					if m.Questions[0].Type != dnsmessage.TypeA {
						others.Add(1)
					}
					return respond(m)
				}))
			}
			exchanges := resolveWith(t, addresses...)
			checkDial(t.Context(), t, port)
			if exchanges.Load() != tt.exchanges || others.Load() != 0 {
				t.Errorf("%d exchanges, want %d; %d questions for other than IPv4 addresses",
					exchanges.Load(), tt.exchanges, others.Load())
			}
		})
	}
}

// TestLookupsAreNotShared loses every packet. Each lookup must ask its own question, and end before Go asks for the
// third time.
func TestLookupsAreNotShared(t *testing.T) {
	exchanges := resolveWith(t, serveDNS(t, noResponse))
	results := make(chan error)
	for range 2 {
		go func() {
			_, err := Dial(t.Context(), "tcp", "incode.example.:443")
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err == nil || Redact(err) != err { //nolint:errorlint // the same error, not a similar one
			t.Errorf("got %v", err)
		}
	}
	if n := exchanges.Load(); n != 4 {
		t.Errorf("two lookups had %d exchanges, want 4", n)
	}
}

// TestLookupFallsBackToTCP has an answer that is too long for UDP. The end of the first exchange must not cut it.
func TestLookupFallsBackToTCP(t *testing.T) {
	port := listen(t)
	var udp string
	var tcp net.Listener
	for tcp == nil { // until a port is free for both
		udp = serveDNS(t, func(m dnsmessage.Message) []byte { m.Truncated = true; return brokennet.Pack(m) })
		var err error
		if tcp, err = net.Listen("tcp", udp); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	defer tcp.Close()
	go func() {
		c, err := tcp.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		query := make([]byte, 512)
		var m dnsmessage.Message
		n, _ := c.Read(query)
		if n < 2 || m.Unpack(query[2:n]) != nil {
			return
		}
		time.Sleep(time.Second) // longer than the first exchange may take
		m.Response, m.Additionals = true, nil
		response := brokennet.Answer(m, local)
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(response))), response...))
	}()
	resolveWith(t, udp)
	checkDial(t.Context(), t, port)
}

func TestRedactKeepsErrorsOfTheConnection(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "dial", Err: io.ErrNoProgress}, io.EOF, io.ErrUnexpectedEOF,
		context.Canceled, context.DeadlineExceeded,
	} {
		wrapped := fmt.Errorf("x: %w", err)
		if got := Redact(wrapped); got != wrapped { //nolint:errorlint // the same error, not a similar one
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestRedactReplacesErrorsThatMayQuoteTheServer(t *testing.T) {
	const unparseable = "the server sent something that cannot be parsed"
	const untrusted = "the server's certificate is not trusted: "
	certificate := &x509.Certificate{DNSNames: []string{"canary"}}
	verification := func(err error) error {
		return &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{certificate}, Err: err}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("canary"), unparseable},
		{&tls.RecordHeaderError{Msg: "canary"}, unparseable},
		{verification(x509.CertificateInvalidError{Cert: certificate, Reason: x509.Expired, Detail: "canary"}),
			untrusted + "x509.CertificateInvalidError"},
		{verification(x509.HostnameError{Certificate: certificate, Host: "x"}), untrusted + "x509.HostnameError"},
		{verification(x509.UnknownAuthorityError{Cert: certificate}), untrusted + "x509.UnknownAuthorityError"},
	} {
		if err := Redact(fmt.Errorf("x: %w", tt.err)); err.Error() != tt.want || errors.Unwrap(err) != nil {
			t.Errorf("%T became %v, want %s", tt.err, err, tt.want)
		}
	}
}
