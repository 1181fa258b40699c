package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/events"
)

// processes collects the command lines and environments that are seen on the
// machine, as ps shows them to its users.
type processes struct {
	stop chan struct{}
	done sync.WaitGroup
	seen map[string]bool // read after done
}

func watchProcesses() *processes {
	p := &processes{stop: make(chan struct{}), seen: map[string]bool{}}
	p.done.Go(func() {
		for {
			for _, what := range []string{"cmdline", "environ"} {
				files, _ := filepath.Glob("/proc/[0-9]*/" + what)
				for _, file := range files {
					if b, err := os.ReadFile(file); err == nil { // else it has ended
						p.seen[string(b)] = true
					}
				}
			}
			select {
			case <-p.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return p
}

// all ends the watch.
func (p *processes) all() []byte {
	close(p.stop)
	p.done.Wait()
	var all bytes.Buffer
	for line := range p.seen {
		all.WriteString(line)
		all.WriteByte('\n')
	}
	return all.Bytes()
}

// memory reads all that a process has written to: what a core dump would hold.
func memory(t *testing.T, pid int) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var all bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); !strings.HasPrefix(fields[1], "rw") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		_, _ = io.Copy(&all, io.NewSectionReader(mem, from, to-from)) // some areas are the kernel's own
	}
	return all.Bytes()
}

// versions lists the secrets that an account has had, the newest first.
func (in *installation) versions(account string) (secrets []string) {
	in.t.Helper()
	var answer struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(in.console("", "secret versions "+account+" --json")), &answer); err != nil {
		in.t.Fatal(err)
	}
	for _, v := range answer.Items {
		secrets = append(secrets, strings.TrimSuffix(in.console("", "secret reveal "+account+" --version "+v.ID+" --reason 'a test looks'"), "\n"))
	}
	return secrets
}

// parts are what is looked for of a secret: of a key, each line of its middle.
func parts(secret string) []string {
	if !strings.Contains(secret, "PRIVATE KEY") {
		return []string{secret}
	}
	lines := strings.Split(strings.TrimSpace(secret), "\n")
	return lines[2 : len(lines)-2] // the first says what every such key says
}

// TestRotatedSecretsLeaveNoTrace: no secret, old or new, stands in what targets log, in any
// process's command line or environment meanwhile, in what the site stores or
// writes, or, a few seconds later, in its memory.
func TestRotatedSecretsLeaveNoTrace(t *testing.T) {
	in := vaultSite(t)
	u, all := in.unixSubjects(t)
	pg, maria, dir := targettest.Postgres(t), targettest.MariaDB(t), targettest.LDAP(t)
	pg.SQL(t, "CREATE ROLE app LOGIN")
	pg.SQL(t, "CREATE ROLE own LOGIN PASSWORD '"+targettest.FirstPassword+"'")
	maria.MySQL(t, "CREATE USER app@'127.0.0.1' IDENTIFIED BY 'x'")
	maria.MySQL(t, "CREATE USER own@'127.0.0.1' IDENTIFIED BY '"+targettest.FirstPassword+"'")
	dir.Person(t, "ann", targettest.FirstPassword)
	dir.Person(t, "own", targettest.FirstPassword)
	all = append(all,
		in.add(t, events.Postgres, "pg", pg.Addr, "own", targettest.FirstPassword),
		in.add(t, events.MySQL, "maria", maria.Addr, "own", targettest.FirstPassword),
		in.add(t, events.LDAP, "dir", dir.Addr, "own", targettest.FirstPassword))
	for _, reset := range []struct{ target, root, account, param string }{
		{"pg", pg.Root, "app", ""}, {"maria", maria.Root, "app", ""}, {"dir", "admin", "ann", " --param dn=cn=admin," + targettest.Suffix},
	} {
		in.console(targettest.Admin, "account add "+reset.root+"+"+reset.target+" --password-stdin"+reset.param)
		in.console("", "account add "+reset.account+"+"+reset.target+" --no-secret password --via "+reset.root+"+"+reset.target)
		all = append(all, &subject{account: reset.account + "+" + reset.target})
	}
	watch := watchProcesses()
	for range 2 {
		for _, s := range all {
			if state := in.rotate(s.account); state != "verified" {
				_, detail := in.standing(s.account)
				t.Fatalf("%s ended %s: %s", s.account, state, detail)
			}
		}
	}
	time.Sleep(4 * time.Second) // two collections
	places := map[string][]byte{
		"a command line or environment": watch.all(), "the site's memory": memory(t, in.site.Pid()),
		"PostgreSQL's log": []byte(pg.Statements(t)), "MariaDB's log": []byte(maria.Statements(t)), "OpenLDAP's log": []byte(dir.Log()), "sshd's log": []byte(u.Log()),
		"what the site writes": []byte(in.site.Stderr()),
	}
	if err := filepath.WalkDir(in.data, func(file string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(file)
		places["the data directory's "+d.Name()] = b
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for place, what := range map[string]string{
		"PostgreSQL's log": "ALTER ROLE", "MariaDB's log": "SET PASSWORD", "OpenLDAP's log": "PASSMOD", "sshd's log": "Accepted password",
		"the site's memory": in.data, "a command line or environment": "passwd",
	} {
		if !bytes.Contains(places[place], []byte(what)) {
			t.Errorf("%s does not hold %s: this tries nothing", place, what)
		}
	}
	for _, s := range all {
		for i, secret := range in.versions(s.account) {
			for _, part := range parts(secret) {
				for place, content := range places {
					if secret == targettest.FirstPassword && strings.HasSuffix(place, "log") {
						continue // the test has made the account with it
					}
					if n := bytes.Count(content, []byte(part)); n > 0 {
						t.Errorf("version %d of %s is %d times in %s", i, s.account, n, place)
					}
				}
			}
		}
	}
}
