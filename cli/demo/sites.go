package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// settleTime bounds how long the demo waits for what the sites do by themselves.
const settleTime = 30 * time.Second

// addSouth starts a second site, which becomes one with the first, and takes the
// words partition and heal from then on.
func (d *demo) addSouth() error {
	d.step("A second site, south, joins: one command at each")
	if err := d.up("south", "south"); err != nil {
		return err
	}
	control, err := listenControl(d.dir, d.wires[0], d.wires[1])
	if err != nil {
		return err
	}
	d.undo = append(d.undo, control.close)
	if err := d.must("ssh gw-ada mesh invite south --addr "+d.wires[0].Addr+" >token", "", ""); err != nil {
		return err
	}
	if err := d.must("ssh south-ada mesh join $(cat token)", "", "joined"); err != nil {
		return err
	}
	if err := d.until("ssh south-ada grant ls --json", func(got string) bool { return strings.Contains(got, "web1") }); err != nil {
		return err
	}
	return d.shown("ssh gw-ada mesh status", func(got string) bool { return strings.Count(got, "linked") == 1 })
}

// until runs a line, unseen, until it prints what is waited for.
func (d *demo) until(line string, enough func(got string) bool) error {
	shown := d.out
	d.out = io.Discard
	defer func() { d.out = shown }()
	for end := time.Now().Add(settleTime); ; {
		got, err := d.run(line, "")
		switch {
		case err == nil && enough(got):
			return nil
		case d.ctx.Err() != nil:
			return d.ctx.Err()
		case time.Now().After(end):
			return errors.Join(fmt.Errorf("%s: after %s it still prints %.500q", line, settleTime, got), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// shown is until, and then shows what the line prints.
func (d *demo) shown(line string, enough func(got string) bool) error {
	if err := d.until(line, enough); err != nil {
		return err
	}
	return d.must(line, "", "")
}

// split cuts the sites off from each other, works at both, and joins them again.
func (d *demo) split() error {
	if err := d.addSouth(); err != nil {
		return err
	}
	account := d.target.account + "+web1"
	d.step("What was decided at north holds at south, the secret included: bob works through either")
	if err := d.must("ssh "+account+"@south 'echo hello through south'", "", "hello through south"); err != nil {
		return err
	}
	d.step("The network between the sites is cut, while bob has a session open at each")
	var open []*session
	for _, host := range []string{"gw", "south"} {
		s, err := d.begin(account + "@" + host)
		if err != nil {
			return err
		}
		defer s.end()
		open = append(open, s)
	}
	if err := d.must("holdfast demo partition --dir $DEMO", "", "cut off"); err != nil {
		return err
	}
	if err := d.shown("ssh gw-ada mesh status", func(got string) bool { return strings.Contains(got, "unreachable") }); err != nil {
		return err
	}
	if err := d.apart(account); err != nil {
		return err
	}
	d.step("The cut is mended; bob's sessions from before it never noticed")
	if err := d.must("holdfast demo heal --dir $DEMO", "", "reach each other"); err != nil {
		return err
	}
	for _, s := range open {
		if err := s.finish(d); err != nil {
			return err
		}
	}
	return d.merged(account)
}

// apart works at both sites while they are cut off from each other.
func (d *demo) apart(account string) error {
	d.step("Both sites go on: sessions, decisions, and both give one name to a target of their own")
	for _, l := range []struct{ line, stdin, wanted string }{
		{"ssh " + account + "@gw 'echo alone at north'", "", "alone at north"},
		{"ssh " + account + "@south 'echo alone at south'", "", "alone at south"},
		{fmt.Sprintf("ssh gw-ada target add app1 --addr 192.0.2.1:22 --host-key \"'%s'\"", d.target.hostKey), "", ""},
		{fmt.Sprintf("ssh south-ada target add app1 --addr 192.0.2.2:22 --host-key \"'%s'\"", d.target.hostKey), "", ""},
		{"ssh gw-ada account add deploy+web1 --password-stdin", "swordfish\n", ""},
		{"ssh south-ada account add backup+web1 --password-stdin", "open sesame\n", ""},
	} {
		if err := d.must(l.line, l.stdin, l.wanted); err != nil {
			return err
		}
	}
	return d.rotate(account)
}

// rotate has both sites change the secret of one account.
func (d *demo) rotate(account string) error {
	if !d.target.rotates {
		return nil
	}
	d.step("Both rotate the secret of one account: the target takes north's, and turns down south, whose secret is not the true one any more")
	if err := d.must("ssh gw-ada rotate run "+account+" --wait", "", "verified"); err != nil {
		return err
	}
	if got, err := d.run("ssh south-ada rotate run "+account+" --wait", ""); err == nil || !strings.Contains(got, "takes none of the secrets") {
		return errors.New("a rotation by a secret that is not true any more was not turned down")
	}
	return nil
}

// rotated shows what became of the rotations on both sides.
func (d *demo) rotated(account string) error {
	if !d.target.rotates {
		return nil
	}
	d.step("The history has both rotations: south's goes on by the secret that north made, and bob works through either site")
	for _, host := range []string{"gw", "south"} {
		if err := d.until("ssh "+host+"-ada rotate status "+account+" --json", func(got string) bool { return strings.Contains(got, `"state":"ok"`) }); err != nil {
			return err
		}
	}
	for _, l := range []struct{ line, wanted string }{
		{"ssh gw-ada audit tail -n 6 --type rotation", "verified"},
		{"ssh gw-ada rotate status " + account, "ok"},
		{"ssh " + account + "@gw 'echo by the secret that is true now'", "by the secret that is true now"},
		{"ssh " + account + "@south 'echo by the secret that is true now'", "by the secret that is true now"},
	} {
		if err := d.must(l.line, "", l.wanted); err != nil {
			return err
		}
	}
	return nil
}

// merged shows the one history that both sites have after the cut.
func (d *demo) merged(account string) error {
	d.step("Both sites hold one history: nothing is lost, and what contradicts itself is shown")
	for _, host := range []string{"gw", "south"} {
		if err := d.until("ssh "+host+"-ada account ls", func(got string) bool { return strings.Contains(got, "deploy") && strings.Contains(got, "backup") }); err != nil {
			return err
		}
		if err := d.until("ssh "+host+"-ada session ls --json", func(got string) bool { return strings.Count(got, `"ended":"`) == 6 }); err != nil {
			return err
		}
	}
	for _, l := range []struct{ line, wanted string }{
		{"ssh gw-ada session ls", "bob"},
		{"ssh south-ada account ls", "deploy"},
		{"ssh south-ada target ls", "conflict"},
		{"ssh south-ada conflict ls", "app1"},
		{"ssh gw-ada audit tail -n 3 --type target", "192.0.2.2"},
	} {
		if err := d.must(l.line, "", l.wanted); err != nil {
			return err
		}
	}
	if err := d.rotated(account); err != nil {
		return err
	}
	d.step("Nobody gets to app1 until a person says which one it is; then the name is free of conflict at both sites")
	if got, err := d.run("ssh gw-ada account add deploy+app1 --password-stdin", "swordfish\n"); err == nil || !strings.Contains(got, "stands for 2") {
		return errors.New("a name with two meanings was not refused")
	}
	second, err := d.targetAt("192.0.2.2:22")
	if err != nil {
		return err
	}
	if err := d.must("ssh gw-ada target rm "+second+" --reason merged", "", ""); err != nil {
		return err
	}
	if err := d.shown("ssh south-ada target ls", func(got string) bool { return !strings.Contains(got, "conflict") }); err != nil {
		return err
	}
	d.step("The proof: by the same clock both sites come to the same state")
	return d.sameDigest()
}

// targetAt gives the id of the target with an address.
func (d *demo) targetAt(addr string) (id string, err error) {
	var list struct{ Items []struct{ ID, Addr string } }
	err = d.until("ssh gw-ada target ls --json", func(got string) bool { return json.Unmarshal([]byte(got), &list) == nil })
	for _, t := range list.Items {
		if t.Addr == addr {
			id = t.ID
		}
	}
	if err == nil && id == "" {
		err = fmt.Errorf("north knows no target at %s", addr)
	}
	return id, err
}

// sameDigest compares what both sites hold, at the clock of the first one.
func (d *demo) sameDigest() error {
	type answer struct {
		Item struct{ Clock, Digest string }
	}
	var at [2]answer
	line := "ssh gw-ada projection digest --json"
	for i, host := range []string{"gw", "south"} {
		if i > 0 {
			line = "ssh " + host + "-ada projection digest --json --at \"'" + at[0].Item.Clock + "'\""
		}
		var bad error
		if err := d.until(line, func(got string) bool { bad = json.Unmarshal([]byte(got), &at[i]); return bad == nil }); err != nil {
			return errors.Join(err, bad)
		}
		fmt.Fprintf(d.out, "   $ %s\n     %s\n", line, at[i].Item.Digest)
	}
	if at[0].Item.Digest != at[1].Item.Digest {
		return fmt.Errorf("at clock %s north comes to %s and south to %s", at[0].Item.Clock, at[0].Item.Digest, at[1].Item.Digest)
	}
	return nil
}

// session is one of bob's that stays open.
type session struct {
	line   string // as it is typed
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// begin opens a session that ends when a line is typed.
func (d *demo) begin(to string) (*session, error) {
	const command = "echo begun; read line; echo $line"
	s := &session{line: "ssh " + to + " '" + command + "'", cmd: exec.CommandContext(d.ctx, "ssh", "-F", d.path("ssh_config"), to, command)}
	fmt.Fprintf(d.out, "   $ %s &\n", s.line)
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.stdout = bufio.NewReader(stdout)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := s.stdout.ReadString('\n'); line != "begun\n" {
		s.end()
		return nil, fmt.Errorf("%s: it did not begin: %q (%w)", s.line, line, err)
	}
	return s, nil
}

// finish types the line, and wants to read it.
func (s *session) finish(d *demo) error {
	const typed = "still here after the cut"
	_, err := fmt.Fprintln(s.stdin, typed)
	line, readErr := s.stdout.ReadString('\n')
	if err = errors.Join(err, readErr, s.cmd.Wait()); err != nil || line != typed+"\n" {
		return fmt.Errorf("%s: the session was lost: it printed %q (%w)", s.line, line, err)
	}
	fmt.Fprintf(d.out, "   # typed into %s\n     %s", s.line, line)
	return nil
}

func (s *session) end() {
	_ = s.cmd.Process.Kill() // it has usually ended
	_ = s.cmd.Wait()
}
