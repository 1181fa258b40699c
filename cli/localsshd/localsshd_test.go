package localsshd

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestStartLogsInAndStops(t *testing.T) {
	s, err := Start(t.Context(), t.TempDir())
	if errors.Is(err, ErrNotInstalled) && os.Getenv("HOLDFAST_REQUIRE_OPENSSH") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	key, err := ssh.ParsePrivateKey(s.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s.HostKey))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{
		User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(host),
	})
	if err != nil {
		t.Fatalf("%v; sshd says: %s", err, s.Log())
	}
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output("echo over ssh")
	if err != nil || strings.TrimSpace(string(out)) != "over ssh" {
		t.Errorf("echo: %q, %v", out, err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{HostKeyCallback: ssh.FixedHostKey(host)}); err == nil {
		t.Error("the server still answers after Stop")
	}
}

func TestInProcessRunsCommands(t *testing.T) {
	s, err := StartInProcess(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s.HostKey))
	if err != nil {
		t.Fatal(err)
	}
	dial := func(password string) (*ssh.Client, error) {
		return ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{
			User: s.User, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.FixedHostKey(host),
		})
	}
	if _, err := dial("wrong"); err == nil {
		t.Error("a wrong password was taken")
	}
	c, err := dial(s.Password)
	if err != nil {
		t.Fatal(err)
	}
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	session.Stdin = strings.NewReader("a\nb\n")
	out, err := session.CombinedOutput("wc -l; echo oops >&2; exit 3")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 3 || !strings.Contains(string(out), "2\n") || !strings.Contains(string(out), "oops") {
		t.Errorf("command: %q, %v; want 2, oops and exit status 3", out, err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
