package events

import "testing"

func TestSelectors(t *testing.T) {
	labels := map[string]string{"env": "prod", "tier": "web"}
	label := func(key string) (string, bool) { v, ok := labels[key]; return v, ok }
	for text, want := range map[string]struct {
		form         string
		root, backup bool
	}{
		"root+*":                 {"root+*", true, false},
		"*+*":                    {"*+*", true, true},
		"root+env=prod":          {"root+env=prod", true, false},
		"*+tier=web,env=prod":    {"*+env=prod,tier=web", true, true},
		"root+env=test":          {"root+env=test", false, false},
		"root+env=prod,zone=a":   {"root+env=prod,zone=a", false, false},
		"root+env=*":             {"root+env=*", true, false},
		"root+zone=*":            {"root+zone=*", false, false},
		"backup+env=prod,tier=*": {"backup+env=prod,tier=*", false, true},
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if s.String() != want.form || s.Takes("root", label) != want.root || s.Takes("backup", label) != want.backup {
			t.Errorf("%q: %q, root %t, backup %t", text, s, s.Takes("root", label), s.Takes("backup", label))
		}
		if !IsSelector(text) {
			t.Errorf("%q is not taken for a selector", text)
		}
	}
	if (Selection{}).Takes("", label) {
		t.Error("no selection takes something in")
	}
}

// What could be an account, or means nothing for certain, is no selector.
func TestSelectorsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"", "+", "root", "root+web1", "root+", "+env=prod", "ro ot+env=prod", "root+env", "root+env=", "root+=prod", "root+env=prod,",
		"root+env=prod,env=test", "root+Env=prod", "root+env=pr*d", "root+env=prod+x=y", "root+*,env=prod", "root+env= prod", "**+env=prod", "root+env=a=b",
	} {
		if s, err := ParseSelector(text); err == nil {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
	for _, text := range []string{"root+web1", "root", "0198c0de-0000-7000-8000-000000000000"} {
		if IsSelector(text) {
			t.Errorf("%q is taken for a selector", text)
		}
	}
}

// Writing and reading a selector gives the same one.
func FuzzSelector(f *testing.F) {
	f.Add("root+env=prod,tier=web")
	f.Add("*+*")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.String() != s.String() || !IsSelector(s.String()) {
			t.Errorf("%q gives %q, which gives %q (%v)", text, s, again, err)
		}
	})
}
