package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// paramikoAsks asks for access as a person would, and prints what it is told on the way.
const paramikoAsks = `
import os, paramiko, socket, sys
env = os.environ
t = paramiko.Transport(socket.create_connection((env["HOST"], int(env["PORT"]))))
t.start_client()
assert t.auth_publickey(sys.argv[1], paramiko.Ed25519Key.from_private_key_file(env["KEY"])) == ["keyboard-interactive"]
def answer(title, instructions, prompts):
    if instructions: print(instructions, flush=True)
    return ["disk full", "30m", "T-1"][:len(prompts)]
t.auth_interactive(sys.argv[1], answer)
c = t.open_session()
c.exec_command("echo in''side")
print(c.recv(100).decode(), end="", flush=True)
`

var waitingRequest = regexp.MustCompile(`request ([-0-9a-f]{36}) waits: 0 approved`)

// Other people's clients ask what the gateway asks, show while they wait what becomes of the request, and go on with it.
func TestClientsAskForAccess(t *testing.T) {
	requireOpenSSH(t)
	s := newClientSite(t)
	target := s.targets[0]
	if err := s.addTarget("web3", target.Addr, target.HostKey, string(target.PrivateKey)); err != nil {
		t.Fatal(err)
	}
	clients := []struct {
		name  string
		needs []string
		setup string
		start func(p *person, v map[string]string, login string) *exec.Cmd
		types bool // the person answers at the terminal
		ready string
	}{
		{name: "ssh", types: true, start: func(p *person, v map[string]string, login string) *exec.Cmd {
			return exec.Command("ssh", "-F", p.config, "-o", "BatchMode=no", login+"@gw", "echo in''side")
		}},
		{name: "jump", types: true, setup: `ssh -F "$CFG" gw ca export | sed -n 's/^@cert-authority [^ ]* /@cert-authority web3 /p' | head -n 1 >>"$CFG.known_hosts"`,
			start: func(p *person, _ map[string]string, login string) *exec.Cmd {
				account, _, _ := strings.Cut(login, "+")
				return exec.Command("ssh", "-F", p.config, "-o", "BatchMode=no", "-J", "gw", account+"@web3", "echo in''side")
			}},
		{name: "plink", types: true, needs: []string{"plink", "puttygen"}, setup: "puttygen $KEY -O private -o key.ppk", ready: "Press Return",
			start: func(_ *person, v map[string]string, login string) *exec.Cmd {
				return exec.Command("plink", "-ssh", "-P", v["PORT"], "-i", "key.ppk", "-hostkey", v["FINGERPRINT"], login+"@"+v["HOST"], "echo in''side")
			}},
		{name: "dbclient", types: true, needs: []string{"dbclient", "dropbearconvert"},
			setup: `dropbearconvert openssh dropbear $KEY key.dropbear; mkdir -p -m 700 .ssh; echo "$HOST $HOSTKEY" >.ssh/known_hosts`,
			start: func(_ *person, v map[string]string, login string) *exec.Cmd {
				return exec.Command("dbclient", "-i", "key.dropbear", "-p", v["PORT"], login+"@"+v["HOST"], "echo in''side")
			}},
		{name: "paramiko", needs: []string{"/usr/lib/python3/dist-packages/paramiko"},
			start: func(_ *person, _ map[string]string, login string) *exec.Cmd {
				return exec.Command("/usr/bin/python3", "asks.py", login)
			}},
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			requireClients(t, c.needs...)
			dir := filepath.Join(t.TempDir(), c.name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			p, err := s.addPerson(dir, entryForms[0])
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.variables()
			if err != nil {
				t.Fatal(err)
			}
			env := os.Environ()
			for name, value := range v {
				env = append(env, name+"="+value)
			}
			if err := os.WriteFile(filepath.Join(p.dir, "asks.py"), []byte(paramikoAsks), 0o600); err != nil {
				t.Fatal(err)
			}
			setup := exec.Command("sh", "-ec", c.setup)
			setup.Env, setup.Dir = env, p.dir
			if out, err := setup.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cmd := c.start(p, v, s.account("web3"))
			cmd.Env, cmd.Dir = env, p.dir
			term := openTerminal(t, cmd)
			if c.types {
				for _, qa := range [][2]string{{"Reason (nothing to give up): ", "disk full"}, {"at most 8h]: ", "30m"}, {"Ticket (if there is one): ", "T-1"}} {
					term.wait(qa[0])
					term.enter(qa[1])
				}
			}
			term.wait(" waits: 0 approved, 1 more needed")
			id := waitingRequest.FindStringSubmatch(term.text())
			if _, err := console(s.config, "", "request approve "+id[1]); err != nil {
				t.Fatal(err)
			}
			if c.ready != "" {
				term.wait(c.ready)
				term.enter("")
			}
			term.wait("inside")
			if code := term.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			t.Logf("%s showed:\n%s", c.name, term.text())
		})
	}
}
