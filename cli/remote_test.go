package cli

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kballard/go-shellquote"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// pair is a key that a test made.
type pair struct {
	private ed25519.PrivateKey
	signer  ssh.Signer
}

func newPair(t *testing.T) pair {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pair{private, signer}
}

func (p pair) line() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.signer.PublicKey())))
}

// save writes the private key to a file, protected if there is a passphrase.
func (p pair) save(t *testing.T, name, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(p.private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(p.private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, string(pem.EncodeToMemory(block)))
	return name
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// loopbackGateway is a loopback SSH server that stands where a site's gateway
// does. What it does with a line is told by the line itself.
type loopbackGateway struct {
	addr  string
	host  pair
	known pair // the key that it lets in

	mu    sync.Mutex // guards what follows
	lines []string
	ptys  []string
}

func startGateway(t *testing.T) *loopbackGateway {
	t.Helper()
	g := &loopbackGateway{host: newPair(t), known: newPair(t)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = listener.Addr().String()
	cfg := &ssh.ServerConfig{
		BannerCallback: func(ssh.ConnMetadata) string { return "welcome\x1b[2J\n" },
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(key.Marshal(), g.known.signer.PublicKey().Marshal()) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	cfg.AddHostKey(g.host.signer)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.serve(conn, cfg) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return g
}

func (g *loopbackGateway) serve(conn net.Conn, cfg *ssh.ServerConfig) {
	defer conn.Close()
	sc, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	defer sc.Close()
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		channel, requests, err := nc.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			switch r.Type {
			case "pty-req":
				g.note(&g.ptys, r.Payload)
				_ = r.Reply(true, nil)
			case "window-change":
				g.note(&g.ptys, append([]byte{0, 0, 0, 0}, r.Payload...))
			case "exec":
				_ = r.Reply(true, nil)
				g.note(&g.lines, r.Payload)
				line := string(r.Payload[4:])
				if line == "hang up" {
					return
				}
				go func() {
					code := act(line, channel)
					_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ C uint32 }{code}))
					_ = channel.Close()
				}()
			}
		}
	}
}

// note keeps a payload that begins with a string: a line as it is, a terminal
// as its kind and size.
func (g *loopbackGateway) note(list *[]string, payload []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var m struct {
		Text       string
		Cols, Rows uint32
		Rest       []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(payload, &m); err != nil {
		m.Text = string(payload[4:])
		*list = append(*list, m.Text)
		return
	}
	*list = append(*list, fmt.Sprintf("%s %dx%d", m.Text, m.Cols, m.Rows))
}

func (g *loopbackGateway) noted(list *[]string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string{}, *list...)
}

// act does what a line says: echo its words, copy standard input, exit with a
// code, wait for Ctrl-C.
func act(line string, channel ssh.Channel) uint32 {
	words, err := shellquote.Split(line)
	if err != nil || len(words) == 0 {
		return 99
	}
	var code uint32
	switch words[0] {
	case "exit":
		_, _ = fmt.Sscan(words[1], &code)
		_, _ = io.WriteString(channel.Stderr(), "error: as asked\n")
	case "session":
		key := make([]byte, 1)
		for _, _ = channel.Read(key); key[0] != 3; _, _ = channel.Read(key) {
		}
	default:
		_, _ = fmt.Fprintf(channel, "%q\n", words)
		_, _ = io.Copy(channel, channel)
	}
	return code
}

// person is somebody with a home directory and the binary.
type person struct {
	*testing.T
	env    map[string]string
	ask    func(string) ([]byte, error)
	stdout io.Writer
	stdin  io.Reader
}

func newPerson(t *testing.T) *person {
	return &person{T: t, env: map[string]string{"HOME": t.TempDir(), "USER": "kim"}}
}

func (p *person) home(names ...string) string {
	return filepath.Join(append([]string{p.env["HOME"]}, names...)...)
}

// trust puts the server's host key where the binary looks for it.
func (p *person) trust(g *loopbackGateway) {
	p.Helper()
	write(p.T, p.home(".ssh", "known_hosts"), knownhosts.Line([]string{g.addr}, g.host.signer.PublicKey())+"\n")
}

type ran struct {
	out, err string
	code     int
}

func (p *person) run(args ...string) ran {
	p.Helper()
	var stdout, stderr bytes.Buffer
	c := &client{getenv: func(name string) string { return p.env[name] }, stdin: p.stdin, stdout: &stdout, stderr: &stderr, ask: p.ask}
	if p.stdout != nil {
		c.stdout = p.stdout
	}
	if c.stdin == nil {
		c.stdin = strings.NewReader("")
	}
	code := c.main(p.Context(), args)
	return ran{stdout.String(), stderr.String(), code}
}

func (p *person) want(r ran, code console.Exit, inStdout, inStderr string) {
	p.Helper()
	if r.code != int(code) || !strings.Contains(r.out, inStdout) || !strings.Contains(r.err, inStderr) {
		p.Errorf("exit %d, want %d with %q and %q\nstdout: %s\nstderr: %s", r.code, code, inStdout, inStderr, r.out, r.err)
	}
}

func TestVerbsGoToTheSite(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.trust(g)
	g.known.save(t, p.home(".ssh", "id_ed25519"), "")
	p.env["HOLDFAST_GATEWAY"] = "127.0.0.1:1"
	at := []string{"--gateway", g.addr}

	p.want(p.run(append(at, "user", "ls")...), console.Done, `["user" "ls"]`, "")
	p.want(p.run("user", "ls", "--gateway="+g.addr, "--no-input"), console.Done, `["user" "ls"]`, "")
	p.want(p.run(append(at, "user", "add", "a b", `c"d'e$(f);|`, "")...), console.Done, `["user" "add" "a b" "c\"d'e$(f);|" ""]`, "")
	p.want(p.run(append(at, "a-verb-of-tomorrow", "--flag", "x")...), console.Done, `["a-verb-of-tomorrow" "--flag" "x"]`, "")
	p.want(p.run(append(at, "user", "frobnicate")...), console.Done, `["user" "frobnicate"]`, "")
	p.want(p.run(append(at, "user", "ls", "--", "--gateway", "x")...), console.Done, `["user" "ls" "--" "--gateway" "x"]`, "")
	for _, code := range []console.Exit{console.Done, console.Denied, console.Waiting} {
		p.want(p.run(append(at, "exit", fmt.Sprint(int(code)))...), code, "", "error: as asked\n")
	}
	p.want(p.run(append(at, "hang", "up")...), console.Unavailable, "", "connection was lost")
	p.want(p.run(append(at, "user", "ls")...), console.Done, "", "welcome\\x1b[2J\n")
	if got := g.noted(&g.ptys); len(got) > 0 {
		t.Errorf("a terminal was asked for without there being one: %q", got)
	}
}

func TestStandardInputIsReadWhenNamed(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.trust(g)
	p.env["HOLDFAST_GATEWAY"], p.env["HOLDFAST_IDENTITY"] = g.addr, g.known.save(t, p.home("key"), "")
	for _, c := range []struct {
		args string
		read bool
	}{
		{"user add kim --key -", true}, {"user add kim --key=-", true}, {"account add root+web1 --password-stdin", true},
		{"account add root+web1 --private-key-stdin", true}, {"secret put root+web1", true}, {"a-verb-of-tomorrow", true}, {"user tomorrow", true},
		{"user ls", false}, {"grant add kim root+web1", false},
	} {
		p.stdin = strings.NewReader("from standard input")
		r := p.run(strings.Fields(c.args)...)
		if got := strings.Contains(r.out, "from standard input"); got != c.read || r.code != 0 {
			t.Errorf("%s: read %t, want %t: %d %s", c.args, got, c.read, r.code, r.err)
		}
	}
}

func TestWhichSite(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.env["HOLDFAST_IDENTITY"] = g.known.save(t, p.home("key"), "")
	p.want(p.run("user", "ls"), console.Unavailable, "", "no site runs in "+p.home(".local", "share", "holdfast"))
	p.want(p.run("frobnicate"), console.Usage, "", `knows no verb "frobnicate"`)
	p.want(p.run("user", "ls", "--json"), console.Unavailable, "", `{"error":{"code":"unavailable"`)

	data := p.home("data")
	runFile := func(listen, key string) {
		b, err := json.Marshal(map[string]string{"ssh": listen, "hostKey": key})
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(data, "run", "site.json"), string(b))
	}
	runFile(g.addr, g.host.line())
	p.want(p.run("user", "ls", "--data", data), console.Done, `["user" "ls"]`, "")
	p.env["HOLDFAST_DATA"] = data
	p.want(p.run("user", "ls"), console.Done, `["user" "ls"]`, "")
	_, port, err := net.SplitHostPort(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	runFile("0.0.0.0:"+port, g.host.line())
	p.want(p.run("user", "ls"), console.Done, `["user" "ls"]`, "")
	runFile(g.addr, newPair(t).line())
	p.want(p.run("user", "ls"), console.Damaged, "", "ANOTHER HOST KEY")
	runFile("127.0.0.1:1", g.host.line())
	p.want(p.run("user", "ls"), console.Unavailable, "", "127.0.0.1:1")
	write(t, filepath.Join(data, "run", "site.json"), "{")
	p.want(p.run("user", "ls"), console.Failed, "", "find the site")
	write(t, filepath.Join(data, "run", "site.json"), strings.Repeat(" ", maxSiteFile+1))
	p.want(p.run("user", "ls"), console.Failed, "", "larger than")

	p.want(p.run("--data", data, "--gateway", g.addr, "user", "ls"), console.Usage, "", "two sites")
	p.want(p.run("user", "ls", "--gateway"), console.Usage, "", "--gateway needs a value")
	p.want(p.run("user", "ls", "--data="), console.Usage, "", "--data needs a value")
}

func TestParseGateway(t *testing.T) {
	for in, want := range map[string]string{
		"gw": "me gw:22", "gw:2222": "me gw:2222", "kim@gw": "kim gw:22", "kim@gw:1": "kim gw:1",
		"10.0.0.1": "me 10.0.0.1:22", "::1": "me [::1]:22", "[::1]": "me [::1]:22", "[::1]:2222": "me [::1]:2222", "kim@[fe80::1]:2": "kim [fe80::1]:2",
		"": "", "gw:": "", "gw:0": "", "gw:x": "", "gw:65536": "", "@gw": "", "root+web1@gw": "", "k@x@gw": "", "root:web1@gw": "", "gw:1:2": "", "a b": "", "/etc/passwd": "",
	} {
		d, err := parseGateway(in, "me")
		if got := d.login + " " + d.addr; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("parseGateway(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestHostKeys(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.env["HOLDFAST_GATEWAY"], p.env["HOLDFAST_IDENTITY"] = g.addr, g.known.save(t, p.home("key"), "")
	known := p.home(".ssh", "known_hosts")

	r := p.run("user", "ls")
	line := knownhosts.Line([]string{g.addr}, g.host.signer.PublicKey())
	p.want(r, console.Login, "", "hint: if that is the fingerprint the site showed when it started, run: echo "+shellquote.Join(line)+" >> "+known)
	write(t, known, knownhosts.Line([]string{g.addr}, newPair(t).signer.PublicKey())+"\n")
	p.want(p.run("user", "ls"), console.Damaged, "", "ANOTHER HOST KEY")
	if len(g.noted(&g.lines)) > 0 {
		t.Error("a line was sent to a gateway that is not known")
	}
	// a key of another kind for the same host must not get in the way
	write(t, known, line+"\n"+strings.Split(line, " ")[0]+" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7\n")
	p.want(p.run("user", "ls", "--known-hosts", p.home("nothing")), console.Usage, "", "known hosts")
	write(t, p.home("other"), line+"\n")
	p.want(p.run("user", "ls", "--known-hosts", p.home("other")), console.Done, "", "")
	write(t, known, knownhosts.HashHostname(knownhosts.Normalize(g.addr))+" "+g.host.line()+"\n")
	p.want(p.run("user", "ls"), console.Done, "", "")
	write(t, known, "@revoked * "+g.host.line()+"\n"+line+"\n")
	p.want(p.run("user", "ls"), console.Failed, "", "revoked")
}

func TestIdentities(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.trust(g)
	p.env["HOLDFAST_GATEWAY"] = g.addr

	p.want(p.run("user", "ls"), console.Login, "", "no key was found here")
	newPair(t).save(t, p.home(".ssh", "id_ed25519"), "")
	p.want(p.run("user", "ls"), console.Login, "", "1 key was offered")
	g.known.save(t, p.home(".ssh", "id_rsa"), "")
	p.want(p.run("user", "ls"), console.Done, "", "")
	p.want(p.run("user", "ls", "--identity", p.home(".ssh", "id_ed25519")), console.Login, "", "1 key was offered")
	p.want(p.run("user", "ls", "--identity", p.home("nothing")), console.Usage, "", "identity")
	write(t, p.home("garbage"), "garbage")
	p.want(p.run("user", "ls", "--identity", p.home("garbage")), console.Usage, "", "identity")
}

func TestLockedIdentity(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.trust(g)
	p.env["HOLDFAST_GATEWAY"] = g.addr
	newPair(t).save(t, p.home(".ssh", "id_ecdsa"), "other")
	file := g.known.save(t, p.home(".ssh", "id_ed25519"), "open sesame")

	p.want(p.run("user", "ls"), console.Login, "", "these keys need a passphrase: "+file)
	var asked []string
	answer := "open sesame"
	p.ask = func(prompt string) ([]byte, error) { asked = append(asked, prompt); return []byte(answer), nil }
	p.want(p.run("user", "ls"), console.Done, "", "")
	if len(asked) != 1 || asked[0] != "Passphrase for "+file+": " {
		t.Errorf("asked %q; only the key that the gateway takes needs its passphrase", asked)
	}
	p.want(p.run("user", "ls", "--no-input"), console.Login, "", "these keys need a passphrase")
	answer = "wrong"
	r := p.run("user", "ls")
	p.want(r, console.Login, "", "unlock "+file)
	if strings.Contains(r.err, "wrong") {
		t.Errorf("the passphrase is repeated: %s", r.err)
	}
}

func TestAgent(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.trust(g)
	p.env["HOLDFAST_GATEWAY"], p.env["SSH_AUTH_SOCK"] = g.addr, p.home("agent")
	p.want(p.run("user", "ls"), console.Login, "", "note: the SSH agent is not used")

	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: g.known.private}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", p.env["SSH_AUTH_SOCK"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			go func() { _ = agent.ServeAgent(keyring, conn) }()
		}
	}()
	p.want(p.run("user", "ls"), console.Done, "", "")
	write(t, p.home("key.pub"), g.known.line()+"\n")
	p.want(p.run("user", "ls", "--identity", p.home("key.pub")), console.Done, "", "")
	write(t, p.home("key.pub"), newPair(t).line()+"\n")
	p.want(p.run("user", "ls", "--identity", p.home("key.pub")), console.Login, "", "the SSH agent does not hold")
}
