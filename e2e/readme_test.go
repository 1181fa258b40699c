package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kballard/go-shellquote"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// readmeLines are the command lines that the README tells people to type.
func readmeLines(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, block := range shellBlock.FindAllStringSubmatch(string(b), -1) {
		lines = append(lines, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	if len(lines) < 10 {
		t.Fatalf("found %d command lines in the README, that is not all of them", len(lines))
	}
	return lines
}

// What the README shows works as it is printed, with only addresses, the
// port and the account's name put in place.
func TestReadme(t *testing.T) {
	requireOpenSSH(t)
	dir := t.TempDir()
	sshd := t.TempDir()
	target, err := localsshd.Start(t.Context(), sshd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Stop() })
	if err := os.Mkdir(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	ada, err := lab.NewKey(filepath.Join(dir, ".ssh", "id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	bob, err := lab.NewKey(filepath.Join(dir, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	carol, err := lab.NewKey(filepath.Join(dir, "carol"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"web1_root_key": string(target.PrivateKey), "notes.txt": "a note\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var site *lab.Site
	asked := "ID" // the request that was made last
	put := strings.NewReplacer("bin/holdfast", "holdfast", "192.0.2.10:22", target.Addr, "root+web1", target.User+"+web1",
		":/tmp/", ":"+dir+"/there.txt", "~/", dir+"/", "./data", dir+"/data")
	for _, shown := range readmeLines(t) {
		line := strings.Replace(put.Replace(shown), " ID", " "+asked, 1)
		if strings.Contains(line, "account add ") { // this sshd reads keys from a place of its own
			line = strings.Replace(line, "--private-key-stdin", "--private-key-stdin --param authorized-keys="+filepath.Join(sshd, "authorized_keys"), 1)
		}
		switch {
		case line == "make build": // this test has the binary already
		case strings.HasPrefix(line, "holdfast up "):
			if site, err = startAsShown(line); err != nil {
				t.Fatalf("%s: %v", shown, err)
			}
			t.Cleanup(func() { _ = site.Kill() })
			if err := lab.WriteConfig(filepath.Join(dir, "config"),
				lab.Host{Alias: "localhost", Addr: site.Addr, HostKey: site.HostKey, Key: ada},
				lab.Host{Alias: "bob", Addr: site.Addr, HostKey: site.HostKey, Key: bob, Options: []string{"HostName 127.0.0.1"}},
				lab.Host{Alias: "carol", Addr: site.Addr, HostKey: site.HostKey, Key: carol, Options: []string{"User carol"}},
			); err != nil {
				t.Fatal(err)
			}
		default:
			out := runAsShown(t, dir, shown, line, site)
			if id := requested.FindSubmatch(out); id != nil {
				asked = string(id[1])
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "there.txt")); err != nil || string(b) != "a note\n" {
		t.Errorf("the copied file holds %q (%v)", b, err)
	}
}

var requested = regexp.MustCompile(`request\.\S+ +(\S+)`)

func startAsShown(line string) (*lab.Site, error) {
	words, err := shellquote.Split(line)
	if err != nil {
		return nil, err
	}
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var data string
	var rest []string
	for i := 2; i < len(words); i++ {
		if words[i] == "--data" {
			i++
			data = words[i]
			continue
		}
		rest = append(rest, words[i])
	}
	return lab.Up(ctx, binary, data, append(rest, "--ssh-listen", "127.0.0.1:0")...)
}

// runAsShown runs a line of the README: those that log in to a target as bob,
// carol's as her, the others as ada. out is what the line printed.
func runAsShown(t *testing.T, dir, shown, line string, site *lab.Site) (out []byte) {
	t.Helper()
	_, port, _ := strings.Cut(site.Addr, ":")
	line = strings.NewReplacer("-p 2222", "-p "+port, "-P 2222", "-P "+port).Replace(line)
	if strings.Contains(line, "+web1@localhost") {
		line = strings.ReplaceAll(line, "@localhost", "@bob")
	}
	line = strings.ReplaceAll(line, "carol@localhost", "carol@carol")
	script := `ssh() { command ssh -F config "$@"; }; scp() { command scp -F config "$@"; }; ` + line
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOLDFAST_IDENTITY="+filepath.Join(dir, ".ssh", "id_ed25519"))
	if strings.HasPrefix(line, "ssh ") && strings.HasSuffix(line, "@bob") {
		cmd.Stdin = strings.NewReader("echo works\nexit\n") // an interactive shell
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", shown, err, out)
	}
	return out
}
