package rotator

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// The questions of the passwd programs that there are.
func TestPromptKind(t *testing.T) {
	for line, want := range map[string]prompt{
		"(current) UNIX password: ":               promptCurrent, // Linux-PAM before 1.4
		"Current password: ":                      promptCurrent,
		"Old password: ":                          promptCurrent, // busybox, shadow without PAM
		"Old Password:":                           promptCurrent, // FreeBSD
		"Enter existing login password: ":         promptCurrent, // Solaris
		"alice's Old password: ":                  promptCurrent, // AIX
		"Enter login(LDAP) password: ":            promptCurrent, // pam_ldap
		"New password: ":                          promptNew,
		"Enter new UNIX password: ":               promptNew,
		"New Password:":                           promptNew,
		"alice's New password: ":                  promptNew,
		"Retype new password: ":                   promptAgain,
		"Retype new UNIX password: ":              promptAgain,
		"Retype password: ":                       promptAgain, // busybox
		"Re-enter new password: ":                 promptAgain,
		"Enter the new password again:":           promptAgain,
		"Reenter new Password: ":                  promptAgain,
		"Password: ":                              promptOther,
		"Verification code: ":                     promptOther,
		"Do you want to continue?":                promptOther,
		"BAD PASSWORD: ":                          promptNone,
		"passwd: ":                                promptNone,
		"Changing password for alice.":            promptNone,
		"Enter the new password (minimum of 5 ch": promptNone,
		"": promptNone,
	} {
		if got := promptKind(line); got != want {
			t.Errorf("%q is %d, want %d", line, got, want)
		}
	}
}

func TestLockedText(t *testing.T) {
	for text, want := range map[string]bool{
		"The account is locked due to 3 failed logins.":                       true,
		"Account locked due to 5 failed logins":                               true,
		"Your account has expired; please contact your system administrator.": true,
		"User account is disabled":                                            true,
		"Authorised users only. Accounts are for work.":                       false,
		"This system is monitored. Login with your own account.\nPassword: ":  false,
		"Warning: your password will expire in 3 days":                        false,
	} {
		if got := lockedText.MatchString(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func text(s string) Secret { return Secret{Kind: events.Password, Bytes: seal.NewSecret([]byte(s))} }

// What a target says goes into errors on one line, bounded, and without secrets.
func TestErrorsAreClean(t *testing.T) {
	secret := text("hunter2-hunter2")
	err := cleaned(fmt.Errorf("it says:\n\x1b[2J hunter2-hunter2 %s", strings.Repeat("x", 5000)), secret)
	if s := err.Error(); strings.Contains(s, "hunter2") || strings.ContainsAny(s, "\n\x1b") || len(s) > 2*maxShown {
		t.Errorf("%q", s)
	}
	if err := cleaned(notPresented(errors.New("x")), secret); !errors.Is(err, ErrNotPresented) || strings.Count(err.Error(), ErrNotPresented.Error()) != 1 {
		t.Errorf("%v", err)
	}
	if err := cleaned(fmt.Errorf("x: %w", context.DeadlineExceeded), secret); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if cleaned(nil, secret) != nil {
		t.Error("nothing became an error")
	}
}

// RFC 7677's example, in PostgreSQL's form.
func TestScramVerifier(t *testing.T) {
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	got, err := scramVerifier([]byte("pencil"), salt, 4096)
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	for version, prefix := range map[string]string{"9.6.24": "md5", "15.8 (Debian 15.8-0+deb12u1)": "SCRAM-", "17beta2": "SCRAM-"} {
		if v, err := pgVerifier(version, "app", text("x")); err != nil || !strings.HasPrefix(v, prefix) {
			t.Errorf("version %s: %s, %v", version, v, err)
		}
	}
	if v, err := pgVerifier("what", "app", text("x")); err == nil {
		t.Errorf("an unknown version gives %s", v)
	}
}

func TestQuoteSh(t *testing.T) {
	for _, s := range []string{"", "a b", "it's", `$(touch x) "y" \`, "'; rm -rf /; '"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quoteSh(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q (%v)", s, out, err)
		}
	}
}

func FuzzAddKey(f *testing.F) {
	first, err := NewKey(Ed25519)
	if err != nil {
		f.Fatal(err)
	}
	second, err := NewKey(Ed25519)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("# x\n" + first.Public + " c\n")
	f.Add("command=\"a,b\" " + first.Public)
	f.Fuzz(func(t *testing.T, content string) {
		j := Job{Verb: ByPrivileged, Current: first}
		out, err := addKey([]byte(content), j, second.Public)
		if err != nil {
			t.Fatal(err)
		}
		blob, _ := keyLine(second.Public)
		found := false
		for line := range strings.Lines(string(out)) {
			b, _, _ := lineKey([]byte(line))
			found = found || string(b) == string(blob)
		}
		if !found || !keepsLines(content, string(out)) {
			t.Errorf("%q became %q", content, out)
		}
	})
}

// keepsLines reports that all lines of a stand in b, in their order.
func keepsLines(a, b string) bool {
	rest := strings.Split(b, "\n")
	for _, line := range strings.Split(strings.TrimSuffix(a, "\n"), "\n") {
		i := 0
		for i < len(rest) && rest[i] != line {
			i++
		}
		if i == len(rest) {
			return false
		}
		rest = rest[i+1:]
	}
	return true
}
