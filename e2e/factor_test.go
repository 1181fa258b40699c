package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// paramikoFactor logs in with the key and whatever is asked for.
const paramikoFactor = `
import os, paramiko, socket, sys
code, env = sys.argv[1], os.environ
t = paramiko.Transport(socket.create_connection((env["HOST"], int(env["PORT"]))))
t.start_client()
left = t.auth_publickey(env["LOGIN"], paramiko.Ed25519Key.from_private_key_file(env["KEY"]))
assert left == ["keyboard-interactive"], left
def answer(title, instructions, prompts):
    assert [p for p, echo in prompts] == ["Code of your second factor: "], prompts
    return [code]
t.auth_interactive(env["LOGIN"], answer)
c = t.open_session()
c.exec_command("echo in''side")
print(c.recv(100).decode(), end="")
`

// Other people's clients go on from the key to the code, each in its own way of asking, and a wrong one is said.
func TestClientsAskForACode(t *testing.T) {
	requireOpenSSH(t)
	s := newClientSite(t)
	p := s.newPerson(t, entryForms[0])
	asPerson := func(stdin, line string) string {
		t.Helper()
		out, err := console(p.config, stdin, line)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var enrolled struct{ Item struct{ Secret string } }
	if err := json.Unmarshal([]byte(asPerson("", "user totp enroll --json")), &enrolled); err != nil {
		t.Fatal(err)
	}
	requireClients(t, "oathtool")
	oath := exec.Command("oathtool", "--totp", "-b", "-")
	oath.Stdin = strings.NewReader(enrolled.Item.Secret)
	code, err := oath.Output()
	if err != nil {
		t.Fatal(err)
	}
	var confirmed struct{ Item struct{ Recovery []string } }
	if err := json.Unmarshal([]byte(asPerson(string(code), "user totp confirm --json")), &confirmed); err != nil {
		t.Fatal(err)
	}
	paper := confirmed.Item.Recovery // codes that need no waiting for
	next := func() string { paper = paper[1:]; return paper[0] }

	variables, err := p.variables()
	if err != nil {
		t.Fatal(err)
	}
	env := os.Environ()
	for name, value := range variables {
		env = append(env, name+"="+value)
	}
	const prompt = "Code of your second factor: "
	writeFile := func(name, text string) string {
		t.Helper()
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sh := func(line string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", line)
		cmd.Env = env
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	atTerminal := func(t *testing.T, name string, args ...string) *terminal {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env, cmd.Dir = env, p.dir
		return openTerminal(t, cmd)
	}
	login, host, port := variables["LOGIN"], variables["HOST"], variables["PORT"]

	t.Run("ssh", func(t *testing.T) {
		term := atTerminal(t, "ssh", "-F", p.config, "-o", "BatchMode=no", "web1", "echo in''side")
		term.wait(prompt)
		term.enter("no such code")
		term.wait("that code is not right")
		term.waitTimes(2, prompt)
		term.enter(next())
		term.wait("inside")
		if code := term.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	})
	t.Run("plink", func(t *testing.T) {
		requireClients(t, "plink", "puttygen")
		sh("puttygen $KEY -O private -o key.ppk")
		term := atTerminal(t, "plink", "-ssh", "-P", port, "-i", "key.ppk", "-hostkey", variables["FINGERPRINT"], login+"@"+host, "echo in''side")
		term.wait(prompt)
		term.enter(next())
		term.wait("Press Return") // plink's guard against servers that pretend to be plink
		term.enter("")
		term.wait("inside")
		term.exit()
	})
	t.Run("dbclient", func(t *testing.T) {
		requireClients(t, "dbclient", "dropbearconvert")
		sh(`dropbearconvert openssh dropbear $KEY key.dropbear; mkdir -p -m 700 .ssh; echo "$HOST $HOSTKEY" >.ssh/known_hosts`)
		term := atTerminal(t, "dbclient", "-i", "key.dropbear", "-p", port, login+"@"+host, "echo in''side")
		term.wait(prompt)
		term.enter(next())
		term.wait("inside")
		term.exit()
	})
	t.Run("paramiko", func(t *testing.T) {
		requireClients(t, "/usr/lib/python3/dist-packages/paramiko")
		cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", writeFile("work.py", paramikoFactor), next())
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "inside\n" {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("holdfast", func(t *testing.T) {
		binary, err := exec.LookPath("holdfast")
		if err != nil {
			t.Fatal(err)
		}
		known := writeFile("known", "["+host+"]:"+port+" "+variables["HOSTKEY"]+"\n")
		term := atTerminal(t, binary, "--gateway", host+":"+port, "--identity", p.key.File, "--known-hosts", known, "whoami")
		term.wait(prompt)
		term.enter("no such code")
		term.wait("that code is not right")
		term.waitTimes(2, prompt)
		term.enter(next())
		term.wait(p.name)
		if code := term.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		cmd := exec.Command(binary, "--no-input", "--gateway", host+":"+port, "--identity", p.key.File, "--known-hosts", known, "whoami")
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "asks for a code of your second factor") {
			t.Errorf("with nobody to ask: %v: %s", err, out)
		}
	})
}

// requireClients skips a test where programs are missing, and fails it where they have to be there.
func requireClients(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if err := findClient(program); err != nil && os.Getenv("HOLDFAST_REQUIRE_CLIENTS") != "" {
			t.Fatal(err)
		} else if err != nil {
			t.Skip(err)
		}
	}
}
