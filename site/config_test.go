package site

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadConfigOrder(t *testing.T) {
	file := writeConfig(t, "site:\n  data: /var/lib/x\nssh:\n  listen: 127.0.0.1:1\n  login_grace: 45s\n")
	c, err := LoadConfig(file, []string{"HOLDFAST_SSH_LISTEN=127.0.0.1:2", "HOLDFAST_GATEWAY=elsewhere", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.SSH.Listen != "127.0.0.1:2" {
		t.Errorf("listen = %s, want the environment's", c.SSH.Listen)
	}
	if c.SSH.LoginGrace != 45*time.Second {
		t.Errorf("login grace = %v, want the file's", c.SSH.LoginGrace)
	}
	if c.SSH.DialTimeout != Defaults().SSH.DialTimeout {
		t.Errorf("dial timeout = %v, want the default", c.SSH.DialTimeout)
	}
	if err := c.Check(); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestLoadConfigIsStrict(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		env  []string
		want string
	}{
		"unknown key":             {"ssh:\n  lissten: 127.0.0.1:1\n", nil, "configuration: there is no key ssh.lissten; the keys are ssh.dial_timeout, ssh.listen, "},
		"unknown section":         {"sshd:\n  listen: 127.0.0.1:1\n", nil, "there is no key sshd.listen; the keys are keys.credential, "},
		"empty unknown section":   {"sshd:\n", nil, "there is no key sshd; "},
		"unknown variable":        {"", []string{"HOLDFAST_SSH_LISSTEN=x"}, "there is no key ssh.lissten; "},
		"text where a section is": {"ssh: x\n", nil, "there is no key ssh; the keys are ssh.dial_timeout, "},
		"key given twice":         {"ssh:\n  listen: a\n  listen: b\n", nil, "listen"},
		"not YAML":                {"ssh: [", nil, "YAML"},
		"text where a number is":  {"log:\n  headroom: plenty\n", nil, "configuration: log.headroom: plenty is not a whole number"},
		"number without a unit":   {"ssh:\n  login_grace: abc\n", nil, "configuration: ssh.login_grace: abc is not a length of time such as 30s"},
		"a list where a text is":  {"ssh:\n  listen: [a, b]\n", nil, "configuration: ssh.listen: [a b] is not a text"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadConfig(writeConfig(t, tc.text), tc.env)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tc.want)) {
				t.Errorf("LoadConfig = %v, want an error naming %q", err, tc.want)
			}
		})
	}
}

func TestConfigCheck(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"site.data":                          func(c *Config) { c.Site.Data = "" },
		"ssh.listen":                         func(c *Config) { c.SSH.Listen = "127.0.0.1" },
		"ssh.login_grace":                    func(c *Config) { c.SSH.LoginGrace = 0 },
		"ssh.max_unauthenticated":            func(c *Config) { c.SSH.MaxUnauthenticated = 0 },
		"ssh.max_unauthenticated_per_source": func(c *Config) { c.SSH.MaxUnauthenticatedPerSource = -1 },
		"ssh.max_rate_per_source":            func(c *Config) { c.SSH.MaxRatePerSource = 0 },
		"log.segment_size":                   func(c *Config) { c.Log.SegmentSize = 1 },
		"log.headroom":                       func(c *Config) { c.Log.Headroom = 1 << 40 },
		"mesh.listen":                        func(c *Config) { c.Mesh.Listen = "7000" },
		"mesh.pair_detect":                   func(c *Config) { c.Mesh.PairDetect = time.Millisecond },
		"mesh.recordings":                    func(c *Config) { c.Mesh.Recordings = "some" },
		"mesh.advertise":                     func(c *Config) { c.Mesh.Advertise = "north.example" },
		"keys.provider":                      func(c *Config) { c.Keys.Provider = "paper" },
		"keys.threshold":                     func(c *Config) { c.Keys.Provider, c.Keys.Threshold = "shares", 1 },
		"keys.shares":                        func(c *Config) { c.Keys.Provider, c.Keys.Shares = "shares", 2 },
		"keys.credential":                    func(c *Config) { c.Keys.Credential = "../x" },
		"keys.pkcs11_module":                 func(c *Config) { c.Keys.Provider = "pkcs11" },
	} {
		c := Defaults()
		c.Site.Data = "d"
		if err := c.Check(); err != nil {
			t.Fatalf("defaults: %v", err)
		}
		edit(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: Check = %v, want an error that names it", name, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:22": true, "127.9.9.9:22": true, "[::1]:22": true,
		"0.0.0.0:22": false, "[::]:22": false, "192.0.2.1:22": false, "localhost:22": true, ":22": false, "": false,
	} {
		if Loopback(addr) != want {
			t.Errorf("Loopback(%q) = %v", addr, !want)
		}
	}
}
