package relay

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// sftpPacket lays out an SFTP packet of 32-bit numbers and of strings with their length.
func sftpPacket(kind byte, values ...any) string {
	b := []byte{kind}
	for _, v := range values {
		switch v := v.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		}
	}
	return string(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

func exec(command string) []byte {
	return sshwire.ChannelRequest{Recipient: 2, Type: "exec", WantReply: true, Payload: sshwire.ExecRequest{Command: command}.Append(nil)}.Append(nil)
}

func subsystem(name string) []byte {
	return sshwire.ChannelRequest{Recipient: 2, Type: "subsystem", WantReply: true, Payload: sshwire.SubsystemRequest{Name: name}.Append(nil)}.Append(nil)
}

var yes = one{Out, sshwire.ChannelSuccess{Recipient: 1}.Append(nil)}

// stepped runs packets through a relay whose state is written out and read back before each, and gives what it tells
// and what it sends each way.
func stepped(t *testing.T, policy Policy, packets []one) (lines []string, sent [2][]string) {
	t.Helper()
	r := session(t, policy, Limits{})
	for _, p := range packets {
		state, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		again := new(Relay)
		if err := again.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		r = again
		outputs, err := r.Step(p.d, p.packet, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outputs {
			if o.Packet != nil {
				sent[o.Direction] = append(sent[o.Direction], string(o.Packet))
			}
		}
		lines = append(lines, tell(outputs)...)
	}
	return lines, sent
}

func TestDeniedProgramsAreRefused(t *testing.T) {
	bad := sshwire.ChannelRequest{Recipient: 2, Type: "subsystem", WantReply: true, Payload: append(str("sftp"), 0)}.Append(nil)
	for _, c := range []struct {
		name    string
		request []byte
		want    string // which of no upload, no download, neither let it pass
	}{
		{"sftp", subsystem("sftp"), "..x"},
		{"sftp with more behind it", bad, "xxx"},
		{"another subsystem", subsystem("netconf"), "..."},
		{"sftp-server as a command", exec("sudo /usr/lib/openssh/sftp-server"), "..x"},
		{"scp up", exec("scp -r -t /tmp"), "x.x"},
		{"scp down", exec("scp -f /etc/passwd"), ".xx"},
		{"scp that a shell decides on", exec("scp $X /tmp"), "..."},
		{"scp behind a variable", exec("scp -t $X"), "xxx"},
		{"rsync up", exec("rsync --server -vlogDtpre.iLsfxCIvu . /tmp"), "x.x"},
		{"rsync down", exec("rsync --server --sender -vlogDtpre.iLsfxCIvu . /etc"), ".xx"},
		{"rsync that reads its options from the client", exec("rsync --server -se.LsfxCIvu"), "xxx"},
		{"rsync as a daemon", exec("rsync --server --daemon ."), "xxx"},
		{"rsync that removes what it sends", exec("rsync --server --sender -e.Lsf --remove-source-files . /etc"), "xxx"},
		{"rsync by sudo", exec("sudo rsync --server --sender -e.Lsf . /etc"), "xxx"},
		{"git push", exec("git-receive-pack '/srv/a.git'"), "x.x"},
		{"git fetch", exec("git-upload-pack '/srv/a.git'"), ".xx"},
		{"git archive", exec("git upload-archive '/srv/a.git'"), ".xx"},
		{"tar, which is any command", exec("tar cf - /etc"), "..."},
		{"a shell", request(2, "shell", true), "..."},
	} {
		got := ""
		for _, policy := range []Policy{{NoUpload: true}, {NoDownload: true}, {NoUpload: true, NoDownload: true}} {
			lines, sent := stepped(t, policy, []one{{In, c.request}})
			if len(sent[In]) == 1 && len(lines) == 1 {
				got += "."
			} else if len(sent[In]) == 0 && len(sent[Out]) == 1 && sent[Out][0] == string(channelFailure) {
				got += "x"
			} else {
				t.Errorf("%s: %q", c.name, lines)
			}
		}
		if got != c.want {
			t.Errorf("%s: passed %s, want %s", c.name, got, c.want)
		}
	}
}

func TestDeniedRequestsAreAnswered(t *testing.T) {
	remove, stat := sftpPacket(13, 5, "/etc/passwd"), sftpPacket(17, 6, "/etc/passwd")
	unsupported, gone := sftpPacket(101, 5, 8, "Operation unsupported", ""), sftpPacket(101, 6, 2, "No such file", "")
	lines, sent := stepped(t, Policy{NoUpload: true}, []one{
		{In, subsystem("sftp")}, yes,
		{In, data(2, sftpPacket(1, 3))}, {Out, data(1, sftpPacket(2, 3))},
		{In, data(2, remove[:20])}, {In, data(2, remove[20:]+stat)},
		{Out, data(1, unsupported[:11])}, {Out, data(1, unsupported[11:]+gone)},
	})
	want := []string{
		"in forward", "out forward", "in forward", "out forward",
		"in altered 3", "in forward", "in altered 4", "in forward", "in refused 4: sftp remove /etc/passwd (upload of files is not allowed)",
		"out altered 3", "out forward", "out altered 4", "out forward",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	in := ""
	for _, p := range sent[In][2:] {
		in += p[9:]
	}
	if strings.Count(in, "/etc/passwd") != 1 || !strings.Contains(in, "-----------") || !strings.HasSuffix(in, stat) {
		t.Errorf("the target got %q", in)
	}
	out := ""
	for _, p := range sent[Out][2:] {
		out += p[9:]
	}
	if out != sftpPacket(101, 5, 3, "Permission denied    ", "")+gone {
		t.Errorf("the client got %q", out)
	}
}

// What can't be answered ends the client's half: the target hears of an end of input, and nothing the client sends later
// reaches it.
func TestDeniedRequestsThatCannotBeAnsweredEndTheInput(t *testing.T) {
	open := sftpPacket(3, 5, "/etc/passwd", 2+8+16, 0)
	eof := sshwire.ChannelEOF{Recipient: 2}.Append(nil)
	lines, _ := stepped(t, Policy{NoUpload: true}, []one{
		{In, subsystem("sftp")}, yes,
		{In, data(2, sftpPacket(1, 3))}, {Out, data(1, sftpPacket(2, 3))},
		{In, data(2, open[:15])}, {In, data(2, open[15:])},
		{In, data(2, sftpPacket(17, 6, "x"))}, {In, eof}, {Out, data(1, "rest")}, {Out, closing(1)}, {In, closing(2)},
	})
	want := []string{
		"in forward", "out forward", "in forward", "out forward", "in forward",
		"in drop 4: refused: transfer of files", "in refused 4: sftp open /etc/passwd (upload of files is not allowed)",
		fmt.Sprintf("in make %x for 4", eof),
		"in drop 5: refused: transfer of files", "in drop 6: the client's half of this channel has ended",
		"out forward", "out forward", "in forward",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestDataThatNoProgramTakesIsRefused(t *testing.T) {
	lines, _ := stepped(t, Policy{NoDownload: true}, []one{
		{In, data(2, "x")}, {In, sshwire.ChannelExtendedData{Recipient: 2, Type: 1, Data: []byte("x")}.Append(nil)}, {In, exec("cat")},
	})
	want := []string{
		"in drop 1: refused: transfer of files", "in refused 1: data it was sent with no program to take it",
		fmt.Sprintf("in make %x for 1", sshwire.ChannelEOF{Recipient: 2}.Append(nil)),
		"in drop 2: only plain data goes to a program whose files are guarded",
		"in drop 3: refused: request exec", "in refused 3: request exec cat (a channel runs one program)",
	}
	if len(lines) < len(want) {
		t.Fatalf("%q", lines)
	}
	if diff := cmp.Diff(want, lines[:len(want)]); diff != "" {
		t.Error(diff)
	}
}
