package sshwire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// xcryptoConfig limits x/crypto/ssh to one combination.
func xcryptoConfig(c combination) ssh.Config {
	cfg := ssh.Config{KeyExchanges: []string{c.kex}, Ciphers: []string{c.cipher}}
	if c.mac != "" {
		cfg.MACs = []string{c.mac}
	}
	return cfg
}

func xcryptoCat(t *testing.T, port string, cfg *ssh.ClientConfig, data []byte) ([]byte, error) {
	t.Helper()
	client, err := ssh.Dial("tcp", "127.0.0.1:"+port, cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	session.Stdin = bytes.NewReader(data)
	return session.Output("cat")
}

func TestXCryptoClient(t *testing.T) {
	server := testServer()
	server.KeyExchanges = append([]string{"diffie-hellman-group14-sha256", "ecdh-sha2-nistp384"}, defaultKeyExchanges...)
	port := listen(t, server)
	data := randomBytes(400_000)
	for _, c := range combinations(server.KeyExchanges, defaultMACs) {
		t.Run(c.String(), func(t *testing.T) {
			out, err := xcryptoCat(t, port, &ssh.ClientConfig{
				Config: xcryptoConfig(c), User: "ann", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
				Auth: []ssh.AuthMethod{ssh.PublicKeys(testKeys().userRSA)},
			}, data)
			if err != nil || !bytes.Equal(out, data) {
				t.Fatalf("%d bytes of %d, %v", len(out), len(data), err)
			}
		})
	}
}

// xcryptoServer serves "cat" with x/crypto/ssh.
func xcryptoServer(t testing.TB, cfg *ssh.ServerConfig, host ssh.Signer) (addr string) {
	t.Helper()
	cfg.AddHostKey(host)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn, channels, requests, err := ssh.NewServerConn(nc, cfg)
				if err != nil {
					nc.Close()
					return
				}
				defer conn.Close()
				go ssh.DiscardRequests(requests)
				for nch := range channels {
					go xcryptoEcho(nch)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func xcryptoEcho(nch ssh.NewChannel) {
	ch, requests, err := nch.Accept()
	if err != nil {
		return
	}
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		go func() {
			_, _ = io.Copy(ch, ch)
			_, _ = ch.SendRequest("exit-status", false, ExitStatus{0}.Append(nil))
			ch.Close()
		}()
	}
}

func dialClient(t testing.TB, addr string, cfg *ClientConfig) (*Conn, error) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return Client(ctx, nc, cfg)
}

func TestXCryptoServer(t *testing.T) {
	k := testKeys()
	data := randomBytes(400_000)
	kexes := append([]string{"diffie-hellman-group14-sha256", "ecdh-sha2-nistp521"}, defaultKeyExchanges...)
	hosts := []ssh.Signer{k.host, k.hostRSA, k.hostEC}
	for i, c := range combinations(kexes, defaultMACs) {
		t.Run(c.String(), func(t *testing.T) {
			addr := xcryptoServer(t, &ssh.ServerConfig{
				Config:            xcryptoConfig(c),
				PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
			}, hosts[i%len(hosts)])
			cfg := testClient()
			cfg.Config = c.config()
			conn, err := dialClient(t, addr, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			out, status, err := runExec(conn, "cat", data)
			if err != nil || status != 0 || !bytes.Equal(out, data) {
				t.Fatalf("%d bytes of %d, status %d, %v", len(out), len(data), status, err)
			}
		})
	}
}

func TestXCryptoRekeysUnderLoad(t *testing.T) {
	data := randomBytes(16 << 20)
	server := testServer()
	server.RekeyBytes = 1 << 20
	x := &ssh.ClientConfig{User: "ann", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(testKeys().user)}}
	x.RekeyThreshold = 700 << 10
	if out, err := xcryptoCat(t, listen(t, server), x, data); err != nil || !bytes.Equal(out, data) {
		t.Errorf("our server: %d bytes of %d, %v", len(out), len(data), err)
	}
	xs := &ssh.ServerConfig{NoClientAuth: true}
	xs.RekeyThreshold = 700 << 10
	cfg := testClient()
	cfg.RekeyBytes, cfg.Auth = 1<<20, nil
	conn, err := dialClient(t, xcryptoServer(t, xs, testKeys().host), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if out, _, err := runExec(conn, "cat", data); err != nil || !bytes.Equal(out, data) {
		t.Errorf("our client: %d bytes of %d, %v", len(out), len(data), err)
	}
	if conn.kex.rounds < 10 {
		t.Errorf("only %d key exchanges", conn.kex.rounds)
	}
}

// The old host keys and signatures must be had on request only.
func TestLegacyRSASignaturesNeedOptIn(t *testing.T) {
	k := testKeys()
	old := must(ssh.NewSignerWithAlgorithms(k.hostRSA.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA}))
	addr := xcryptoServer(t, &ssh.ServerConfig{NoClientAuth: true}, old)
	cfg := testClient()
	cfg.Auth = nil
	_, err := dialClient(t, addr, cfg)
	var breach *ProtocolError
	if !errors.As(err, &breach) || !strings.Contains(err.Error(), "host key algorithm") {
		t.Fatalf("without opting in: %v", err)
	}
	cfg.HostKeyAlgorithms = []string{ssh.KeyAlgoRSA}
	conn, err := dialClient(t, addr, cfg)
	if err != nil {
		t.Fatalf("having opted in: %v", err)
	}
	conn.Close()
}

func TestHostCertificate(t *testing.T) {
	k := testKeys()
	cert := &ssh.Certificate{Key: k.hostRSA.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"web1"},
		ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(bytes.NewReader(randomBytes(4096)), k.other); err != nil {
		t.Fatal(err)
	}
	server := testServer()
	server.HostKeys = []ssh.Signer{must(ssh.NewCertSigner(cert, k.hostRSA))}
	checker := &ssh.CertChecker{IsHostAuthority: func(a ssh.PublicKey, _ string) bool { return sameKey(a, k.other.PublicKey()) }}
	out, err := xcryptoCat(t, listen(t, server), &ssh.ClientConfig{
		User: "ann", Auth: []ssh.AuthMethod{ssh.PublicKeys(k.user)},
		HostKeyCallback: func(_ string, a net.Addr, key ssh.PublicKey) error { return checker.CheckHostKey("web1:22", a, key) },
	}, []byte("hi"))
	if err != nil || string(out) != "hi" {
		t.Fatalf("x/crypto/ssh: %q, %v", out, err)
	}
	cfg := testClient()
	cfg.HostKeyAlgorithms = []string{ssh.CertAlgoRSASHA256v01}
	cfg.HostKey = func(_ net.Addr, key ssh.PublicKey) error {
		if c, ok := key.(*ssh.Certificate); !ok || !sameKey(c.SignatureKey, k.other.PublicKey()) {
			return errUnknownKey
		}
		return nil
	}
	if a, _ := pair(t, cfg, server); a.Algorithms().HostKey != ssh.CertAlgoRSASHA256v01 {
		t.Errorf("host key algorithm %s", a.Algorithms().HostKey)
	}
}
