package rotator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// sshKey changes the key of an account in its authorized_keys file. Change adds
// the new key beside the old one, with the old one's options and comment, so
// that the account is never without a key; Retire takes old ones away. Other
// lines stay as they are, byte for byte.
type sshKey struct{}

var _ Retirer = sshKey{}

// maxKeys bounds an authorized_keys file, in bytes.
const maxKeys = 512 << 10

// Verify logs in with the key.
func (sshKey) Verify(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	return verifySSH(ctx, j, candidate)
}

// Change implements [Rotator].
func (k sshKey) Change(ctx context.Context, j Job, next Secret) (Outcome, error) {
	if _, err := keyLine(next.Public); err != nil {
		return Refused, notPresented(fmt.Errorf("the new key: %w", err))
	}
	return k.edit(ctx, j, func(content []byte) ([]byte, error) { return addKey(content, j, next.Public) })
}

// Retire implements [Retirer].
func (k sshKey) Retire(ctx context.Context, j Job, gone []string) (Outcome, error) {
	keep, err := keyLine(j.Current.Public)
	if err != nil {
		return Refused, notPresented(fmt.Errorf("the key that stays: %w", err))
	}
	var blobs [][]byte
	for _, line := range gone {
		blob, err := keyLine(line)
		if err != nil {
			return Refused, notPresented(fmt.Errorf("a key to retire: %w", err))
		}
		if !bytes.Equal(blob, keep) {
			blobs = append(blobs, blob)
		}
	}
	return k.edit(ctx, j, func(content []byte) ([]byte, error) { return dropKeys(content, keep, blobs) })
}

// edit replaces the file by what change makes of it, if it is still what was read.
func (sshKey) edit(ctx context.Context, j Job, change func([]byte) ([]byte, error)) (Outcome, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	who, err := j.actor()
	if err != nil {
		return Refused, err
	}
	client, answer, err := dialSSH(ctx, j, who)
	if client == nil {
		return refusedLogin(who, answer, cleaned(err, who.Secret))
	}
	defer client.Close() // best effort: what was done is known by the exit status
	f := keyFile{client: client, job: j}
	if err := f.read(); err != nil {
		return Refused, cleaned(errors.Join(err, ctx.Err()), who.Secret)
	}
	content, err := change(f.content)
	if err != nil {
		return Refused, cleaned(err, who.Secret)
	}
	if bytes.Equal(content, f.content) {
		return Applied, nil
	}
	outcome, err := f.replace(content)
	return outcome, cleaned(errors.Join(err, ctx.Err()), who.Secret)
}

// keyLine gives the key of a line in authorized_keys form, wire form.
func keyLine(line string) ([]byte, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, errors.New("not a public key in authorized_keys form")
	}
	return key.Marshal(), nil
}

// lineKey gives the key that a line of the file lets in, nil for a comment, an
// authority or what sshd would not read either.
func lineKey(line []byte) (blob []byte, options []string, comment string) {
	key, comment, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil || slices.ContainsFunc(options, func(o string) bool { return strings.EqualFold(o, "cert-authority") }) {
		return nil, nil, ""
	}
	return key.Marshal(), options, comment
}

// addKey adds the new key after each line of the current one, or at the end.
func addKey(content []byte, j Job, public string) ([]byte, error) {
	fresh, err := keyLine(public)
	if err != nil {
		return nil, err
	}
	var old []byte
	if j.Current.Public != "" {
		if old, err = keyLine(j.Current.Public); err != nil {
			return nil, fmt.Errorf("the current key: %w", err)
		}
	}
	var out bytes.Buffer
	found := false
	for line := range bytes.Lines(content) {
		blob, options, comment := lineKey(line)
		switch {
		case blob != nil && bytes.Equal(blob, fresh):
			return content, nil // a change that was cut short
		case blob != nil && bytes.Equal(blob, old):
			found = true
			out.Write(terminated(line))
			out.Write(joinLine(options, public, comment))
			continue
		}
		out.Write(line)
	}
	if found {
		return out.Bytes(), nil
	}
	if j.Verb == AsItself {
		return nil, fmt.Errorf("the current key does not stand in %s; name the file with --param %s=FILE", j.Params[targetkind.AuthorizedKeys], targetkind.AuthorizedKeys)
	}
	return append(terminated(content), joinLine(nil, public, "")...), nil
}

func joinLine(options []string, public, comment string) []byte {
	fields := strings.Fields(public)[:2]
	if len(options) > 0 {
		fields = append([]string{strings.Join(options, ",")}, fields...)
	}
	if comment != "" {
		fields = append(fields, comment)
	}
	return []byte(strings.Join(fields, " ") + "\n")
}

// terminated ends a line that its file did not end.
func terminated(line []byte) []byte {
	if len(line) == 0 || bytes.HasSuffix(line, []byte("\n")) {
		return line
	}
	return append(slices.Clone(line), '\n')
}

// dropKeys takes the keys out, only where the one to keep stays.
func dropKeys(content, keep []byte, gone [][]byte) ([]byte, error) {
	var out bytes.Buffer
	kept := false
	for line := range bytes.Lines(content) {
		blob, _, _ := lineKey(line)
		if blob != nil && slices.ContainsFunc(gone, func(g []byte) bool { return bytes.Equal(g, blob) }) {
			continue
		}
		kept = kept || bytes.Equal(blob, keep)
		out.Write(line)
	}
	if !kept {
		return nil, errors.New("the key that stays is not in the file, so nothing is taken out of it")
	}
	return out.Bytes(), nil
}

// keyFile is an authorized_keys file on the target.
type keyFile struct {
	client  *ssh.Client
	job     Job
	content []byte
	sum     string // what cksum said of the content; empty for no file
}

// Exit statuses of the scripts below, beyond those of a shell.
const (
	exitHome    = 90 // no home directory
	exitMoved   = 91 // somebody else has changed the file
	exitWrite   = 92 // the new file can't be written
	exitShort   = 93 // the new file is not what was sent
	exitReplace = 94 // the new file can't take the old one's place
	exitLink    = 95 // a link that can't be followed, or may not be
	exitLoose   = 96 // others may write where sshd wants the owner only
)

var exitTexts = map[int]string{
	exitHome: "the account has no home directory", exitMoved: "somebody else has changed the file meanwhile",
	exitWrite: "the new file can't be written", exitShort: "the new file is not what was sent (is the disk full?)",
	exitReplace: "the new file can't take the place of the old one", exitLink: "the file is a link that is not followed",
	exitLoose: "others may write the file, its directory or the home directory, so sshd would not read it",
}

// read gets the content with its checksum. A file of the account's home is
// handled with the account's own rights: what its owner made of it can't be used
// to read or write what is not theirs.
func (f *keyFile) read() error {
	script := f.locate() + `
if [ -e "$f" ]; then echo "sum $(cksum < "$f")" && cat -- "$f"; else echo none; fi`
	r, err := runSSH(f.client, f.as(script), nil)
	if err == nil && r.status != 0 {
		err = f.failed(r)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", f.name(), err)
	}
	head, content, _ := bytes.Cut(r.out, []byte("\n"))
	switch sum, ok := strings.CutPrefix(string(head), "sum "); {
	case string(head) == "none":
		return nil
	case !ok || sum == "" || strings.Trim(sum, "0123456789 \t") != "":
		return fmt.Errorf("read %s: the account's shell writes other things first: %s", f.name(), head)
	case len(content) > maxKeys:
		return fmt.Errorf("read %s: it has more than %d bytes", f.name(), maxKeys)
	default:
		f.content, f.sum = content, sum
		return nil
	}
}

// replace puts a complete new file in the old one's place, with its mode, or
// leaves all as it was.
func (f *keyFile) replace(content []byte) (Outcome, error) {
	mode := "600"
	if f.absolute() {
		mode = "644" // sshd reads it with the account's rights
	}
	script := f.locate() + `
now=; [ -e "$f" ] && now=$(cksum < "$f")
[ "$now" = ` + quoteSh(f.sum) + ` ] || exit ` + strconv.Itoa(exitMoved) + `
t=$(mktemp "$f.XXXXXX") || exit ` + strconv.Itoa(exitWrite) + `
trap 'rm -f -- "$t"' EXIT
trap 'exit 1' HUP INT TERM PIPE
if [ -e "$f" ]; then cp -p -- "$f" "$t" || exit ` + strconv.Itoa(exitWrite) + `; else chmod ` + mode + ` "$t"; fi
cat > "$t" || exit ` + strconv.Itoa(exitWrite) + `
[ "$(wc -c < "$t")" -eq ` + strconv.Itoa(len(content)) + ` ] || exit ` + strconv.Itoa(exitShort) + `
sync -- "$t" 2>/dev/null || :
mv -f -- "$t" "$f" || exit ` + strconv.Itoa(exitReplace) + `
trap - EXIT`
	r, err := runSSH(f.client, f.as(script), content)
	switch {
	case !r.started:
		return Refused, err
	case err != nil:
		return Unknown, fmt.Errorf("replace %s: %w", f.name(), err)
	case r.status == 0:
		return Applied, nil
	case exitTexts[r.status] != "":
		return Refused, fmt.Errorf("replace %s: %w", f.name(), f.failed(r))
	}
	return Unknown, fmt.Errorf("replace %s: %w", f.name(), f.failed(r))
}

func (f *keyFile) failed(r ran) error {
	text := exitTexts[r.status]
	if text == "" {
		text = fmt.Sprintf("the script ended with status %d", r.status)
	}
	if words := strings.TrimSpace(string(r.errs)); words != "" {
		text += ": " + words
	}
	return errors.New(text)
}

func (f *keyFile) name() string { return f.job.Params[targetkind.AuthorizedKeys] }

// absolute reports whether the file lies outside the home directory, where its
// owner is the system.
func (f *keyFile) absolute() bool { return path.IsAbs(f.name()) }

// locate is the beginning of a script: f is the file, after links, and what sshd
// demands of it holds.
func (f *keyFile) locate() string {
	name := strings.ReplaceAll(f.name(), "%u", f.job.Account)
	if f.absolute() {
		return `umask 022
f=` + quoteSh(name) + `
[ ! -L "$f" ] || exit ` + strconv.Itoa(exitLink)
	}
	loose := `loose() { case $(ls -ld -- "$1") in ?????w*|????????w*) exit ` + strconv.Itoa(exitLoose) + `;; esac; }`
	return `umask 077
cd ~` + f.job.Account + ` || exit ` + strconv.Itoa(exitHome) + `
` + loose + `
f=` + quoteSh(name) + `
d=` + quoteSh(path.Dir(name)) + `
mkdir -p -- "$d" || exit ` + strconv.Itoa(exitWrite) + `
if [ -L "$f" ]; then f=$(readlink -f -- "$f") || exit ` + strconv.Itoa(exitLink) + `; fi
loose .; loose "$d"
if [ -e "$f" ]; then loose "$f"; fi`
}

// as wraps a script so that whoever has logged in runs it with the right rights.
func (f *keyFile) as(script string) string {
	switch {
	case f.job.Verb == AsItself:
		return "sh -c " + quoteSh(script)
	case f.absolute():
		return asPrivileged("sh -c " + quoteSh(script))
	}
	user := quoteSh(f.job.Account)
	return "sh -c " + quoteSh(`PATH="$PATH:/usr/sbin:/sbin"; export PATH; if [ "$(id -un)" = `+user+` ]; then exec sh -c `+quoteSh(script)+`; `+
		`elif [ "$(id -u)" = 0 ]; then exec su -s /bin/sh `+user+` -c `+quoteSh(script)+`; `+
		`else exec sudo -n -u `+user+` -- sh -c `+quoteSh(script)+`; fi`)
}
