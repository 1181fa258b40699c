package destination

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustParse(t testing.TB, text string) Rule {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReaches(t *testing.T) {
	tests := []struct {
		rule string
		yes  []string
		no   []string
	}{
		{"db1.example.net:5432",
			[]string{"db1.example.net 5432", "DB1.Example.Net 5432", "db1.example.net. 5432"},
			[]string{"db1.example.net 5433", "db2.example.net 5432", "xdb1.example.net 5432", "10.0.0.1 5432", " 5432", "db1.example.net 0", "db1.example.net 70968"}},
		{"*.example.net:443",
			[]string{"a.example.net 443", "a.b.example.net 443"},
			[]string{"example.net 443", "aexample.net 443", "a.example.net.evil.com 443", ".example.net 443", "10.0.0.1 443"}},
		{"10.0.0.0/8:5432",
			[]string{"10.0.0.1 5432", "10.255.1.2 5432", "::ffff:10.1.2.3 5432"},
			[]string{"11.0.0.1 5432", "10.0.0.1.example.net 5432", "10.1 5432", "0xa000001 5432", "167772161 5432", "10.0.0.1 22"}},
		{"[2001:db8::/32]:*",
			[]string{"2001:db8::1 1", "2001:DB8:1::1 65535"},
			[]string{"2001:db9::1 1", "2001:db8::1%eth0 1", "10.0.0.1 1", "2001:db8::1 65536", "2001:db8::1 0"}},
		{"192.0.2.7:80", []string{"192.0.2.7 80"}, []string{"192.0.2.8 80", "192.0.2.07 80"}},
		{"*:8000-8010",
			[]string{"web 8000", "10.0.0.1 8010", "2001:db8::1 8005"},
			[]string{"web 7999", "web 8011", "localhost 8000", "localhost. 8000", "LOCALHOST 8000", "app.localhost 8000", "localhost.localdomain 8000",
				"localhost6 8000", "ip6-localhost 8000", "ip6-loopback 8000", "127.0.0.1 8000", "127.1.2.3 8000", "127.1 8000", "0177.0.0.1 8000", "0x7f.1 8000", "2130706433 8000",
				"0.0.0.0 8000", "0 8000", "0.1.2.3 8000", "::1 8000", ":: 8000", "::ffff:127.0.0.1 8000", "::1%lo 8000", "169.254.169.254 8000", "fe80::1 8000", "fe80::1%eth0 8000",
				" 8000", "* 8000", "a b 8000", "a/b 8000", "web%eth0 8000"}},
		{"localhost:*", []string{"localhost 80", "LocalHost. 80", "127.0.0.1 22", "::1 1"}, []string{"127.0.0.2 80", "app.localhost 80", "0.0.0.0 80", "web 80", " 80"}},
		{"127.0.0.0/8:80", []string{"127.9.9.9 80"}, []string{"localhost 80", "10.0.0.1 80"}},
		{"0.0.0.0/0:80", []string{"192.0.2.1 80"}, []string{"127.0.0.1 80", "0.0.0.0 80", "169.254.169.254 80"}},
		{"[::/0]:80", []string{"2001:db8::1 80"}, []string{"::1 80", ":: 80", "::ffff:127.0.0.1 80", "fe80::1 80"}},
		{"169.254.169.254:80", []string{"169.254.169.254 80"}, []string{"169.254.169.253 80"}},
		{"/run/app.sock", nil, []string{"/run/app.sock 1", "run 1"}},
	}
	for _, tt := range tests {
		r := mustParse(t, tt.rule)
		if r.String() != tt.rule {
			t.Errorf("%s reads %s", tt.rule, r)
		}
		for want, list := range map[bool][]string{true: tt.yes, false: tt.no} {
			for _, place := range list {
				host, port, _ := strings.Cut(place, " ")
				if strings.Count(place, " ") > 1 {
					host, port = place[:strings.LastIndex(place, " ")], place[strings.LastIndex(place, " ")+1:]
				}
				if got := r.Reaches(host, number(port)); got != want {
					t.Errorf("%s reaches %q: %t", tt.rule, place, got)
				}
			}
		}
	}
	if (Rule{}).Reaches("web", 80) || (Rule{}).Binds("", 80) || (Rule{}).Names("/x") {
		t.Error("the zero rule names something")
	}
}

func number(s string) (n uint32) {
	for _, c := range s {
		n = 10*n + uint32(c-'0')
	}
	return n
}

func TestBinds(t *testing.T) {
	tests := []struct {
		rule, host string
		port       uint32
		want       bool
	}{
		{"localhost:8080", "localhost", 8080, true},
		{"localhost:8080", "127.0.0.1", 8080, true},
		{"localhost:8080", "::1", 8080, true},
		{"localhost:8080", "", 8080, false},
		{"localhost:8080", "*", 8080, false},
		{"localhost:8080", "0.0.0.0", 8080, false},
		{"localhost:8080", "localhost", 0, false},
		{"localhost:*", "localhost", 0, true},
		{"localhost:1-65535", "localhost", 0, false},
		{"*:8080", "", 8080, true},
		{"*:8080", "0.0.0.0", 8080, true},
		{"*:8080", "::", 8080, true},
		{"*:8080", "localhost", 8080, true},
		{"*:8080", "192.0.2.1", 8080, true},
		{"192.0.2.1:8080", "192.0.2.1", 8080, true},
		{"192.0.2.1:8080", "", 8080, false},
		{"0.0.0.0/0:8080", "", 8080, false},
	}
	for _, tt := range tests {
		if got := mustParse(t, tt.rule).Binds(tt.host, tt.port); got != tt.want {
			t.Errorf("%s binds %q port %d: %t", tt.rule, tt.host, tt.port, got)
		}
	}
}

func TestNames(t *testing.T) {
	for place, want := range map[string]bool{
		"/run/app/a.sock": true, "/run/app/.sock": true, "/run/app/a/b.sock": false, "/run/app/../x.sock": false, "/run/app//a.sock": false,
		"/run/app/a.sock/": false, "run/app/a.sock": false, "": false, "/run/app/x": false,
	} {
		if got := mustParse(t, "/run/app/*.sock").Names(place); got != want {
			t.Errorf("names %q: %t", place, got)
		}
	}
	if mustParse(t, "*:*").Names("/run/app/a.sock") {
		t.Error("a rule for hosts names a socket")
	}
}

func TestWhatIsNoRule(t *testing.T) {
	for _, text := range []string{
		"", "web", "web:", ":80", "web:0", "web:65536", "web:-1", "web:9-1", "web:1-", "web:http", "web:+80", "we b:80", "web..x:80", "-web:80", "*web:80", "w*b:80", "*.*:80",
		"*.:80", "10.0.0.*:80", "10.1:80", "0x7f.1:80", "10.0.0.1/8:80", "10.0.0.0/33:80", "2001:db8::1:80", "[fe80::1%eth0]:22", "[::ffff:0:0/96]:80",
		"/run/../x", "/run/", "/a?", "/[a]", "/a\x1b", "\x00:80", strings.Repeat("a", 400) + ":80",
	} {
		_, err := Parse(text)
		var bad *Error
		if !errors.As(err, &bad) || bad.Text != text || bad.Why == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever the rule, an address of the target itself is reached only by one that names nothing else.
func TestWideRulesNeverNameTheTargetItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b [4]byte
		for i := range b {
			b[i] = rapid.Byte().Draw(t, "byte")
		}
		bits := rapid.IntRange(0, 7).Draw(t, "bits")
		p := netip.PrefixFrom(netip.AddrFrom4(b), bits).Masked()
		r, err := Parse(p.String() + ":*")
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"127.0.0.1", "0.0.0.0", "169.254.169.254", "localhost"} {
			if r.Reaches(host, 80) {
				t.Fatalf("%s reaches %s", r, host)
			}
		}
	})
}

// FuzzRule judges any host by any rule: no panic, a rule survives being written, and "*" never reaches the target itself.
func FuzzRule(f *testing.F) {
	f.Add("10.0.0.0/8:5432", "10.1.2.3", uint32(5432))
	f.Add("/run/*", "/run/x", uint32(0))
	f.Add("*:*", "localhost.", uint32(80))
	f.Fuzz(func(t *testing.T, text, host string, port uint32) {
		all := mustParse(t, "*:*")
		if a, err := netip.ParseAddr(strings.TrimSpace(host)); err == nil && a.Unmap().IsLoopback() && all.Reaches(host, port) {
			t.Fatalf("*:* reaches %q", host)
		}
		r, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q became %v (%v)", text, again, err)
		}
		r.Reaches(host, port)
		r.Binds(host, port)
		r.Names(host)
		if port > 65535 && (r.Reaches(host, port) || r.Binds(host, port)) {
			t.Fatalf("%s names port %d", r, port)
		}
	})
}
