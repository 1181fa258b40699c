package sshwire

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// BenchmarkPackets sends 32 KiB packets one way over loopback TCP, sealed and opened; both ends are in this process.
func BenchmarkPackets(b *testing.B) {
	for _, cipher := range []string{"aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"} {
		b.Run("sshwire/"+cipher, func(b *testing.B) {
			client, server := testClient(), testServer()
			client.Ciphers = []string{cipher}
			benchmarkOwn(b, client, server)
		})
		b.Run("xcrypto/"+cipher, func(b *testing.B) { benchmarkXCrypto(b, cipher) })
	}
}

const benchPayload = 32 << 10

func benchmarkOwn(b *testing.B, client *ClientConfig, server *ServerConfig) {
	from, to := pair(b, client, server)
	p := ChannelData{0, make([]byte, benchPayload)}.Append(nil)
	ended := make(chan error, 1)
	go func() {
		for range b.N {
			if _, err := to.ReadPacket(); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	b.SetBytes(benchPayload)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { // key exchanges need a reader on this side too
		for {
			if _, err := from.ReadPacket(); err != nil {
				return
			}
		}
	}()
	for range b.N {
		if err := from.WritePacket(p); err != nil {
			b.Fatal(err)
		}
	}
	if err := from.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// benchmarkXCrypto moves the same bytes through one channel of x/crypto/ssh.
func benchmarkXCrypto(b *testing.B, cipher string) {
	cs, ss := tcpPair(b)
	ended := make(chan error, 1)
	go func() { ended <- xcryptoSink(ss, b.N) }()
	cfg := &ssh.ClientConfig{User: "ann", HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	cfg.Ciphers = []string{cipher}
	conn, channels, requests, err := ssh.NewClientConn(cs, "", cfg)
	if err != nil {
		b.Fatal(err)
	}
	client := ssh.NewClient(conn, channels, requests)
	defer client.Close()
	ch, reqs, err := client.OpenChannel("session", nil)
	if err != nil {
		b.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	p := make([]byte, benchPayload)
	b.SetBytes(benchPayload)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := ch.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func xcryptoSink(nc net.Conn, packets int) error {
	cfg := &ssh.ServerConfig{NoClientAuth: true}
	cfg.AddHostKey(testKeys().host)
	_, channels, requests, err := ssh.NewServerConn(nc, cfg)
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	ch, reqs, err := (<-channels).Accept()
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(reqs)
	_, err = io.CopyN(io.Discard, ch, int64(packets)*benchPayload)
	return err
}

// BenchmarkSealOpen is the protection alone, without a network.
func BenchmarkSealOpen(b *testing.B) {
	for _, k := range everyKeys() {
		b.Run(k.Cipher+k.MAC, func(b *testing.B) {
			src := &bytes.Reader{}
			s, r := ends(b, k, src)
			p := make([]byte, benchPayload)
			p[0] = MsgChannelData
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			for b.Loop() {
				s.seal(p, 0)
				src.Reset(*s.pending)
				if _, err := r.next(); err != nil {
					b.Fatal(err)
				}
				*s.pending = (*s.pending)[:0]
			}
		})
	}
}

// BenchmarkLogin is a whole login by public key over loopback, both ends.
func BenchmarkLogin(b *testing.B) {
	for b.Loop() {
		c, s := pair(b, testClient(), testServer())
		c.Close()
		s.Close()
	}
}
