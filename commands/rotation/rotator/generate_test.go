package rotator_test

import (
	"math"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

func TestGeneratedPasswordsMeetThePolicy(t *testing.T) {
	for _, kind := range targetkind.Kinds() {
		for _, p := range []rotator.Policy{
			rotator.DefaultPolicy(kind),
			{Length: 16, Classes: []string{rotator.Lower, rotator.Upper, rotator.Digits}},
			{Length: 25, Classes: []string{rotator.Lower + rotator.Digits}, Forbidden: "l1o0"},
		} {
			seen := map[string]bool{}
			for range 500 {
				s, err := rotator.NewPassword(kind, p)
				if err != nil {
					t.Fatal(err)
				}
				text := string(s.Bytes.Bytes())
				if len(text) != p.Length || strings.ContainsAny(text, p.Forbidden+" '\"\\$`:;&|<>#!%@/=*?()[]{}~,\t\n") || seen[text] {
					t.Fatalf("%q", text)
				}
				for _, class := range p.Classes {
					if !strings.ContainsAny(text, class) {
						t.Fatalf("%q has nothing of %q", text, class)
					}
				}
				if strings.IndexAny(text, rotator.Symbols) == 0 {
					t.Fatalf("%q begins with a symbol", text)
				}
				seen[text] = true
			}
		}
	}
}

func TestPoliciesThatCantBeMet(t *testing.T) {
	for name, p := range map[string]rotator.Policy{
		"short":        {Length: 12, Classes: []string{rotator.Lower, rotator.Upper}},
		"no class":     {Length: 30},
		"all of it":    {Length: 30, Classes: []string{rotator.Lower, rotator.Digits}, Forbidden: rotator.Digits},
		"too long":     {Length: 80, Classes: []string{rotator.Lower}},
		"one letter":   {Length: 70, Classes: []string{"a"}},
		"not ASCII":    {Length: 30, Classes: []string{"aäb"}},
		"control":      {Length: 30, Classes: []string{"ab\n"}},
		"more classes": {Length: 2, Classes: []string{"a", "b", "c"}},
	} {
		if s, err := rotator.NewPassword("mysql", p); err == nil {
			t.Errorf("%s gives %q", name, s.Bytes.Bytes())
		}
	}
}

// Each character is as likely as the others: chi-squared over 100,000 of 62.
func TestNoCharacterIsFavoured(t *testing.T) {
	p := rotator.Policy{Length: 100, Classes: []string{rotator.Lower + rotator.Upper + rotator.Digits}}
	count := map[rune]float64{}
	const n = 1000
	for range n {
		s, err := rotator.NewPassword("ssh", p)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range string(s.Bytes.Bytes()) {
			count[r]++
		}
	}
	want, chi := float64(n*p.Length)/62, 0.0
	for _, r := range p.Classes[0] {
		chi += math.Pow(count[r]-want, 2) / want
	}
	if chi > 130 { // 61 degrees of freedom: beyond one in a million
		t.Errorf("chi-squared is %.0f", chi)
	}
}

func TestGeneratedKeys(t *testing.T) {
	for _, kind := range []rotator.KeyType{rotator.Ed25519, rotator.RSA} {
		s, err := rotator.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey(s.Bytes.Bytes())
		if err != nil || strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) != s.Public {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := rotator.NewKey("dsa"); err == nil {
		t.Error("a DSA key was made")
	}
}
