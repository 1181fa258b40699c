package targettest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Unix is an OpenSSH server with accounts that exist for it alone: it runs in
// a mount namespace whose /etc is a copy, so the machine's own accounts are never
// touched and passwd, chpasswd and PAM work as everywhere.
type Unix struct {
	*server
	Addr    string
	HostKey string // authorized_keys form
	Root    string // a private key that logs in as root, PEM

	t    testing.TB
	base string
}

// Accounts of a [Unix]: Alice and Bob have the first password, Admin may use
// sudo without one.
const (
	Alice         = "alice"
	Bob           = "bob"
	Sudoer        = "sudoer"
	FirstPassword = "F1rst-passw0rd-of-tests"
)

// StartUnix starts a [Unix]. It needs root.
func StartUnix(t testing.TB) *Unix {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "root, for Unix accounts in a mount namespace")
	}
	sshd, keygen := program(t, "sshd"), program(t, "ssh-keygen")
	for _, name := range []string{"unshare", "useradd", "chpasswd", "sudo", "nsenter"} {
		program(t, name)
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		Missing(t, "the right to make a mount namespace: "+string(out))
	}
	base := dir(t, nil)
	u := &Unix{t: t, base: base}
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	var port string
	u.Addr, port = freePort(t)
	for _, key := range []string{"host", "root"} {
		run(t, nil, keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(base, key))
	}
	u.HostKey, u.Root = u.read("host.pub"), u.read("root")
	u.HostKey = strings.Join(strings.Fields(u.HostKey)[:2], " ")
	const pam = `auth required pam_faillock.so preauth nodelay deny=3 unlock_time=60 dir=/etc/faillock
auth [success=1 default=ignore] pam_unix.so nodelay
auth [default=die] pam_faillock.so authfail nodelay deny=3 unlock_time=60 dir=/etc/faillock
auth required pam_permit.so
account required pam_unix.so
account required pam_faillock.so dir=/etc/faillock
password required pam_unix.so sha512 minlen=8
session required pam_permit.so
`
	write(t, filepath.Join(base, "sshd_config"), strings.Join([]string{
		"ListenAddress 127.0.0.1", "Port " + port, "HostKey " + base + "/host", "PidFile none", "UsePAM yes", "PermitRootLogin yes",
		"PasswordAuthentication yes", "KbdInteractiveAuthentication yes", "AuthorizedKeysFile .ssh/authorized_keys " + keyDir + "/%u",
		"PrintMotd no", "UseDNS no", "LogLevel VERBOSE", "StrictModes yes", "MaxStartups 200", "MaxAuthTries 20", "Subsystem sftp internal-sftp",
	}, "\n")+"\n", nil)
	write(t, filepath.Join(base, "up"), `set -e
mount --make-rprivate /
cp -a /etc "`+base+`/etc"
mount --bind "`+base+`/etc" /etc
mkdir -p /run/sshd /etc/faillock "`+base+`/home" `+keyDir+`
chmod 755 "`+base+`/home" `+keyDir+`
for f in sshd passwd chpasswd su sudo; do cat > /etc/pam.d/$f <<'P'
`+pam+`P
done
sed -i '1i auth sufficient pam_rootok.so' /etc/pam.d/su
: > /etc/security/opasswd
for name in `+Alice+` `+Bob+` `+Sudoer+`; do
	useradd -m -b "`+base+`/home" -s /bin/sh $name
	echo "$name:`+FirstPassword+`" | chpasswd
done
mkdir -p /etc/sudoers.d
echo '`+Sudoer+` ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/tests
chmod 440 /etc/sudoers.d/tests
cp "`+base+`/root.pub" `+keyDir+`/root
chmod 644 `+keyDir+`/root
exec "`+sshd+`" -D -e -f "`+base+`/sshd_config"
`, nil)
	made := os.Mkdir("/run/sshd", 0o755) == nil
	if made {
		t.Cleanup(func() { _ = os.Remove("/run/sshd") }) // another server may use it by now
	}
	u.server = serve(t, nil, filepath.Join(base, "log"), u.Addr, "unshare", "-m", "/bin/sh", filepath.Join(base, "up"))
	return u
}

func (u *Unix) read(name string) string {
	u.t.Helper()
	b, err := os.ReadFile(filepath.Join(u.base, name))
	if err != nil {
		u.t.Fatal(err)
	}
	return string(b)
}

// Home is an account's home directory.
func (u *Unix) Home(account string) string { return filepath.Join(u.base, "home", account) }

// KeyDir is a directory of the system's own in which sshd looks for the file of
// each account.
func (u *Unix) KeyDir() string { return keyDir }

// keyDir is among the accounts only, where nobody but root may write to any
// directory above it: sshd looks.
const keyDir = "/etc/keys-of-accounts"

// Sh runs a script as root among the accounts.
func (u *Unix) Sh(script string) string {
	u.t.Helper()
	out, err := exec.Command("nsenter", "-m", "-t", u.pid(), "/bin/sh", "-ec", script).CombinedOutput()
	if err != nil {
		u.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func (u *Unix) pid() string { return strconv.Itoa(u.cmd.Process.Pid) }

// KeyFor gives an account a key of the test's and nothing else.
func (u *Unix) KeyFor(account, public string) {
	u.t.Helper()
	home := u.Home(account)
	u.Sh(`mkdir -p "` + home + `/.ssh"; echo '` + public + `' > "` + home + `/.ssh/authorized_keys"; chmod 700 "` + home + `/.ssh"; chmod 600 "` + home + `/.ssh/authorized_keys"; chown -R ` + account + `: "` + home + `/.ssh"`)
}
