package incode

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"testing"

	"omnistart/internal/tooling/incodetest"
)

// TestOldTLSIsRefused offers what the key must not go over.
func TestOldTLSIsRefused(t *testing.T) {
	s := incodetest.New()
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // on purpose
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	_, err := clientOf(t, server).Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID})
	if e := failure(t, err); e.Outcome != NotSent || s.Requests() != 0 {
		t.Errorf("got %v after %d requests", e, s.Requests())
	}
}

// handshake opens a TLS connection and returns it with the peer's end, from
// beneath TLS. The server has sent session tickets.
func handshake(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	_, server, c := standIn(t)
	// Go's server sends no tickets to a client that cannot use them, as others
	// do, and sends them early if it wants no certificate.
	c.pool.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	config := server.TLS.Clone()
	config.ClientAuth = tls.RequestClientCert
	l := listen(t)
	c.pool.addr = l.Addr().String()
	var peer net.Conn
	done := make(chan error)
	go func() {
		tcp, err := l.Accept()
		if err == nil {
			peer = tcp
			err = tls.Server(tcp, config).Handshake()
		}
		done <- err
	}()
	spare, err := c.pool.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spare.Close() })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return spare, peer
}

func TestTicketsAreNoReply(t *testing.T) {
	c, _ := handshake(t)
	if !c.quiet() {
		t.Error("tickets are taken for a reply")
	}
}

// TestPartOfARecordIsUnasked sends what crypto/tls tells nobody of until there is
// more of it.
func TestPartOfARecordIsUnasked(t *testing.T) {
	for name, part := range map[string]string{"header": "\x17", "body": "\x17\x03\x03\x00\x40eyJ"} {
		t.Run(name, func(t *testing.T) {
			c, peer := handshake(t)
			if !c.quiet() {
				t.Fatal("not fit before")
			}
			if _, err := io.WriteString(peer, part); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return !c.quiet() })
		})
	}
}

// TestRecordsAreFollowedHoweverTheyArrive cuts some records into pieces of each
// size.
func TestRecordsAreFollowedHoweverTheyArrive(t *testing.T) {
	var stream []byte
	ends := map[int]bool{0: true}
	for _, size := range []int{0, 1, 5, 300, 0, 0, 70} {
		stream = append(stream, 0x17, 3, 3, byte(size>>8), byte(size))
		stream = append(stream, make([]byte, size)...)
		ends[len(stream)] = true
	}
	for size := 1; size <= len(stream); size++ {
		p := &peer{}
		p.reply.Reset(stream)
		w := &wire{Conn: p, tls: true}
		for at, piece := 0, make([]byte, size); at < len(stream); {
			n, err := w.Read(piece)
			if at += n; err != nil || w.partial() == ends[at] {
				t.Fatalf("in pieces of %d, after %d bytes: partial is %t, %v", size, at, w.partial(), err)
			}
		}
	}
}

// TestNoFarewellIsWaitedFor closes a TLS connection: no byte leaves, so a peer
// that takes none holds nobody up.
func TestNoFarewellIsWaitedFor(t *testing.T) {
	c, peer := handshake(t)
	if !c.quiet() { // which also reads the tickets: what is unread would make it a reset
		t.Fatal("not fit before")
	}
	c.Close()
	if farewell, err := io.ReadAll(peer); len(farewell) > 0 || err != nil {
		t.Errorf("the peer was told %x, %v", farewell, err)
	}
}
