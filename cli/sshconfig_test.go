package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func someSite(t *testing.T) sshSite {
	s := sshSite{
		Name: "lab", Login: "bob", Addr: "192.0.2.1:2222", Identity: "/home/bob/my 100% key",
		HostKey: newPair(t).line() + " a comment", Authorities: []string{newPair(t).line(), newPair(t).line()},
	}
	s.add("root", "web1")
	s.add("postgres", "DB7")
	s.add("root", "DB7")
	s.add("root", "web1")
	return s
}

func TestSSHConfigText(t *testing.T) {
	s := someSite(t)
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	want := `# Written by holdfast ssh-config for site lab, and replaced by it.
Host holdfast-lab
  HostName 192.0.2.1
  Port 2222
  User bob
  HostKeyAlias holdfast-lab
  IdentityFile "/home/bob/my 100%% key"
Host web1
  User root
Host web1 DB7 db7
  ProxyJump holdfast-lab
Host holdfast-lab web1 DB7 db7
  UserKnownHostsFile "/h/.ssh/holdfast/lab.known_hosts"
  StrictHostKeyChecking yes
`
	if got := s.config(sshFiles{"/h/.ssh"}); got != want {
		t.Errorf("config:\n%s", got)
	}
	known := "holdfast-lab " + s.HostKey + "\n@cert-authority web1,db7 " + s.Authorities[0] + "\n@cert-authority web1,db7 " + s.Authorities[1] + "\n"
	if got := s.knownHosts(); got != known || strings.Contains(got, "comment") {
		t.Errorf("known_hosts:\n%s", got)
	}
}

// A site can't write lines of its own into what ssh obeys, nor be believed for every name.
func TestAttackSSHConfigFromASite(t *testing.T) {
	for name, spoil := range map[string]func(*sshSite){
		"line in the site's name": func(s *sshSite) { s.Name = "x\n  ProxyCommand evil" },
		"path in the site's name": func(s *sshSite) { s.Name = "../x" },
		"every host":              func(s *sshSite) { s.add("root", "*") },
		"two hosts in one name":   func(s *sshSite) { s.add("root", "a,b") },
		"negated host":            func(s *sshSite) { s.add("root", "!web1") },
		"option in an account":    func(s *sshSite) { s.add("-oProxyCommand=evil", "web1") },
		"line in an account":      func(s *sshSite) { s.add("root\nProxyCommand evil", "web1") },
		"space in a target":       func(s *sshSite) { s.add("root", "web1 github.com") },
		"empty target":            func(s *sshSite) { s.add("root", "") },
		"no key":                  func(s *sshSite) { s.Authorities[1] = "none" },
		"quote in the identity":   func(s *sshSite) { s.Identity = "a\"b" },
		"no target":               func(s *sshSite) { s.Targets = nil },
	} {
		s := someSite(t)
		if spoil(&s); s.check() == nil {
			t.Errorf("%s is taken:\n%s%s", name, s.config(sshFiles{"/h"}), s.knownHosts())
		}
	}
	if _, err := newSSHFiles("/tmp/a*b"); err == nil {
		t.Error("a pattern is taken as the directory")
	}
}

// What was there stays as it was, byte for byte, whatever it was.
func TestIncludeLineComesAndGoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "ssh")
		if err != nil {
			rt.Fatal(err)
		}
		f, err := newSSHFiles(filepath.Join(dir, ".ssh"))
		if err != nil {
			rt.Fatal(err)
		}
		old := []byte(rapid.SampledFrom([]string{"", "Host *\n  User x\n", "Host a\r\n  Port 1", "\n\n", "# Include\n", "\x00\xff"}).Draw(rt, "config"))
		there := rapid.Bool().Draw(rt, "there")
		mode := os.FileMode(rapid.SampledFrom([]uint32{0o600, 0o644, 0o400}).Draw(rt, "mode"))
		if there {
			must(rt, os.MkdirAll(f.dir, 0o700), os.WriteFile(f.main(), old, mode), os.Chmod(f.main(), mode))
		}
		must(rt, f.write("one", "a", "b"), f.write("two", "c", "d"), f.write("one", "e", "f"))
		got, err := os.ReadFile(f.main())
		if err != nil || string(got) != f.include()+"\n"+string(wanted(there, old)) {
			rt.Fatalf("config is %q, %v", got, err)
		}
		for path, want := range map[string]string{f.config("one"): "e", f.known("one"): "f", f.config("two"): "c"} {
			b, err := os.ReadFile(path)
			info, err2 := os.Stat(path)
			if err != nil || err2 != nil || string(b) != want || info.Mode().Perm() != 0o600 {
				rt.Fatalf("%s: %q, %v, %v", path, b, info, err)
			}
		}
		must(rt, f.remove("one"))
		if b, _ := os.ReadFile(f.main()); !bytes.HasPrefix(b, []byte(f.include())) {
			rt.Fatal("the line went with the first of two sites")
		}
		must(rt, f.remove("*"), f.remove("*"))
		got, err = os.ReadFile(f.main())
		if err != nil || !bytes.Equal(got, wanted(there, old)) {
			rt.Fatalf("config is %q, %v; it was %q", got, err, old)
		}
		if info, err := os.Stat(f.main()); err != nil || there && info.Mode().Perm() != mode {
			rt.Fatalf("mode %v, %v; it was %v", info.Mode(), err, mode)
		}
		if left, _ := os.ReadDir(f.dir); len(left) != 1 {
			rt.Fatalf("left behind: %v", left)
		}
	})
}

func wanted(there bool, old []byte) []byte {
	if !there {
		return nil
	}
	return old
}

func must(t interface{ Fatal(...any) }, errs ...error) {
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A configuration that is a link to a file kept elsewhere stays one.
func TestSSHConfigThroughALink(t *testing.T) {
	f := sshFiles{t.TempDir()}
	kept := filepath.Join(t.TempDir(), "dotfiles")
	write(t, kept, "Host *\n")
	must(t, os.Symlink(kept, f.main()), f.write("lab", "", ""))
	if b, _ := os.ReadFile(kept); string(b) != f.include()+"\nHost *\n" {
		t.Errorf("the kept file is %q", b)
	}
	if info, err := os.Lstat(f.main()); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info, err)
	}
}
