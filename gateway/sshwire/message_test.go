package sshwire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The same messages in x/crypto/ssh's reflective codec: an independent reading of RFC 4254.
type (
	refGlobal struct {
		Type      string `sshtype:"80"`
		WantReply bool
		Payload   []byte `ssh:"rest"`
	}
	refSuccess struct {
		Payload []byte `sshtype:"81" ssh:"rest"`
	}
	refOpen struct {
		Type                      string `sshtype:"90"`
		Sender, Window, MaxPacket uint32
		Payload                   []byte `ssh:"rest"`
	}
	refConfirm struct {
		Recipient                 uint32 `sshtype:"91"`
		Sender, Window, MaxPacket uint32
		Payload                   []byte `ssh:"rest"`
	}
	refFailure struct {
		Recipient, Reason uint32 `sshtype:"92"`
		Text, Language    string
	}
	refAdjust struct {
		Recipient, Bytes uint32 `sshtype:"93"`
	}
	refData struct {
		Recipient uint32 `sshtype:"94"`
		Data      []byte
	}
	refExtended struct {
		Recipient, Type uint32 `sshtype:"95"`
		Data            []byte
	}
	refEOF struct {
		Recipient uint32 `sshtype:"96"`
	}
	refClose struct {
		Recipient uint32 `sshtype:"97"`
	}
	refRequest struct {
		Recipient uint32 `sshtype:"98"`
		Type      string
		WantReply bool
		Payload   []byte `ssh:"rest"`
	}
	refChanSuccess struct {
		Recipient uint32 `sshtype:"99"`
	}
	refChanFailure struct {
		Recipient uint32 `sshtype:"100"`
	}
)

type appender interface{ Append([]byte) []byte }

func parser[T appender](parse func([]byte) (T, error)) func([]byte) (appender, error) {
	return func(b []byte) (appender, error) { return parse(b) }
}

// messageCases is every message and request payload once, with what x/crypto makes of the same values.
// open tells that any bytes may follow: the message ends in a type-specific rest.
var messageCases = []struct {
	name  string
	ours  appender
	ref   any
	parse func([]byte) (appender, error)
	open  bool
}{
	{"GLOBAL_REQUEST", GlobalRequest{"tcpip-forward", true, []byte("x\x00y")}, refGlobal{"tcpip-forward", true, []byte("x\x00y")}, parser(ParseGlobalRequest), true},
	{"REQUEST_SUCCESS", RequestSuccess{[]byte{0, 0, 4, 210}}, refSuccess{[]byte{0, 0, 4, 210}}, parser(ParseRequestSuccess), true},
	{"CHANNEL_OPEN", ChannelOpen{"session", 7, 1 << 21, 1 << 15, []byte{}}, refOpen{"session", 7, 1 << 21, 1 << 15, nil}, parser(ParseChannelOpen), true},
	{"CHANNEL_OPEN_CONFIRMATION", ChannelOpenConfirmation{1, 2, 3, 4, []byte("z")}, refConfirm{1, 2, 3, 4, []byte("z")}, parser(ParseChannelOpenConfirmation), true},
	{"CHANNEL_OPEN_FAILURE", ChannelOpenFailure{9, OpenAdministrativelyProhibited, "no", "en"}, refFailure{9, 1, "no", "en"}, parser(ParseChannelOpenFailure), false},
	{"CHANNEL_WINDOW_ADJUST", ChannelWindowAdjust{1, 0xffffffff}, refAdjust{1, 0xffffffff}, parser(ParseChannelWindowAdjust), false},
	{"CHANNEL_DATA", ChannelData{3, []byte("caf\xc3")}, refData{3, []byte("caf\xc3")}, parser(ParseChannelData), false},
	{"CHANNEL_EXTENDED_DATA", ChannelExtendedData{3, ExtendedDataStderr, []byte("err")}, refExtended{3, 1, []byte("err")}, parser(ParseChannelExtendedData), false},
	{"CHANNEL_EOF", ChannelEOF{5}, refEOF{5}, parser(ParseChannelEOF), false},
	{"CHANNEL_CLOSE", ChannelClose{5}, refClose{5}, parser(ParseChannelClose), false},
	{"CHANNEL_REQUEST", ChannelRequest{5, "exec", true, []byte("p")}, refRequest{5, "exec", true, []byte("p")}, parser(ParseChannelRequest), true},
	{"CHANNEL_SUCCESS", ChannelSuccess{5}, refChanSuccess{5}, parser(ParseChannelSuccess), false},
	{"CHANNEL_FAILURE", ChannelFailure{5}, refChanFailure{5}, parser(ParseChannelFailure), false},
	{"pty-req", PtyRequest{"xterm", 80, 24, 640, 480, []byte{0}}, struct {
		T          string
		C, R, W, H uint32
		M          []byte
	}{"xterm", 80, 24, 640, 480, []byte{0}}, parser(ParsePtyRequest), false},
	{"direct-tcpip", DirectTCPIP{"web1", 22, "192.0.2.1", 40000}, struct {
		H string
		P uint32
		O string
		Q uint32
	}{"web1", 22, "192.0.2.1", 40000}, parser(ParseDirectTCPIP), false},
	{"window-change", WindowChange{80, 24, 0, 0}, struct{ C, R, W, H uint32 }{80, 24, 0, 0}, parser(ParseWindowChange), false},
	{"env", EnvRequest{"LANG", "C"}, struct{ N, V string }{"LANG", "C"}, parser(ParseEnvRequest), false},
	{"exec", ExecRequest{"echo \xff"}, struct{ C string }{"echo \xff"}, parser(ParseExecRequest), false},
	{"subsystem", SubsystemRequest{"sftp"}, struct{ N string }{"sftp"}, parser(ParseSubsystemRequest), false},
	{"signal", SignalRequest{"TERM"}, struct{ N string }{"TERM"}, parser(ParseSignalRequest), false},
	{"exit-status", ExitStatus{255}, struct{ C uint32 }{255}, parser(ParseExitStatus), false},
	{"exit-signal", ExitSignal{"KILL", true, "gone", ""}, struct {
		S    string
		D    bool
		T, L string
	}{"KILL", true, "gone", ""}, parser(ParseExitSignal), false},
}

func TestMessagesAgreeWithXCrypto(t *testing.T) {
	for _, c := range messageCases {
		t.Run(c.name, func(t *testing.T) {
			want := ssh.Marshal(c.ref)
			got := c.ours.Append(nil)
			if !bytes.Equal(got, want) {
				t.Fatalf("encoded %x, x/crypto encodes %x", got, want)
			}
			back, err := c.parse(want)
			if err != nil || !reflect.DeepEqual(back, c.ours) {
				t.Fatalf("parsed %+v (%v), want %+v", back, err, c.ours)
			}
			if prefixed := c.ours.Append([]byte("keep")); !bytes.Equal(prefixed, append([]byte("keep"), want...)) {
				t.Fatal("Append lost what was before it")
			}
		})
	}
}

func TestMessagesRefuseCutsAndTrailingBytes(t *testing.T) {
	for _, c := range messageCases {
		whole := c.ours.Append(nil)
		for n := range whole {
			got, err := c.parse(whole[:n:n])
			if err == nil && !c.open {
				t.Errorf("%s cut to %d of %d bytes was taken for %+v", c.name, n, len(whole), got)
			}
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: error %v doesn't wrap ErrMalformed", c.name, err)
			}
		}
		if _, err := c.parse(append(whole, 0)); (err == nil) != c.open {
			t.Errorf("%s with a byte after its end: %v", c.name, err)
		}
	}
}

func TestMessagesRefuseWrongNumbersAndNames(t *testing.T) {
	if _, err := ParseChannelEOF(ChannelClose{1}.Append(nil)); !errors.Is(err, ErrMalformed) {
		t.Errorf("CHANNEL_CLOSE read as CHANNEL_EOF: %v", err)
	}
	if _, err := ParseRequestFailure([]byte{MsgRequestFailure}); err != nil {
		t.Error(err)
	}
	if _, err := ParseRequestFailure([]byte{MsgRequestFailure, 0}); err == nil {
		t.Error("REQUEST_FAILURE with a trailing byte was accepted")
	}
	for _, name := range []string{"", strings.Repeat("a", 65), "with space", "comma,", "new\nline", "caf\xc3\xa9", "nul\x00"} {
		if _, err := ParseChannelRequest(ChannelRequest{Type: name}.Append(nil)); !errors.Is(err, ErrMalformed) {
			t.Errorf("request type %q: %v", name, err)
		}
	}
}

// A parser must hand out views of the packet that can't be appended into its neighbour fields.
func TestParsedSlicesAreCapped(t *testing.T) {
	packet := append(ChannelData{1, []byte("abc")}.Append(nil), 0xee)[:12]
	m, err := ParseChannelData(packet)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(m.Data, 'X')
	if full := packet[:13]; full[12] != 0xee {
		t.Fatal("appending to a parsed field wrote past it")
	}
}

func FuzzMessages(f *testing.F) {
	for _, c := range messageCases {
		f.Add(c.ours.Append(nil))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, c := range messageCases {
			m, err := c.parse(packet)
			if err != nil {
				continue
			}
			again, err := c.parse(m.Append(nil))
			if err != nil || !reflect.DeepEqual(m, again) {
				t.Fatalf("%s: %+v came back as %+v (%v)", c.name, m, again, err)
			}
		}
	})
}
