package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// peersEnv makes the test binary play a client and a target for one measurement, so that what they cost is not counted
// as the gateway's.
const peersEnv = "HOLDFAST_PEERS"

func TestMain(m *testing.M) {
	if job := os.Getenv(peersEnv); job != "" {
		if err := playPeers(job); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// job is what the peers do once the session runs.
type job struct {
	Client, Target string // addresses to connect to
	Do             string // down, up, echo
	Packets        int    // of 32 KiB; keystrokes for echo
	Sessions       int    // opened one after the other
	Pause          time.Duration
}

// told is what the peers measured.
type told struct{ P50, P99 time.Duration }

// noRekey keeps key exchanges out of the measurement: a peer's reader waits when it writes.
const noRekey = 1 << 60

const (
	peerPacket = 32 << 10
	peerWindow = 2 << 20
)

// peer is one end of a session's only channel.
type peer struct {
	*sshwire.Conn
	mu     sync.Mutex
	cond   *sync.Cond
	window int
}

func playPeers(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	var ends [][2]*peer
	for range max(j.Sessions, 1) {
		client, target, err := meet(j)
		if err != nil {
			return err
		}
		ends = append(ends, [2]*peer{client, target})
	}
	lines := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	for {
		if _, err := lines.ReadString('\n'); err != nil {
			return nil // the benchmark is over
		}
		var out told
		var err error
		switch client, target := ends[0][0], ends[0][1]; j.Do {
		case "down":
			err = stream(target, client, j.Packets)
		case "up":
			err = stream(client, target, j.Packets)
		case "echo":
			out, err = echo(client, target, j.Packets, j.Pause)
		}
		if err != nil {
			return err
		}
		b, err := json.Marshal(out)
		if err != nil {
			return err
		}
		fmt.Println(string(b))
	}
}

// meet logs in at both ends of a gateway's session and opens a channel, number 0 on both sides.
func meet(j job) (client, target *peer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	up, err := net.Dial("tcp", j.Target)
	if err != nil {
		return nil, nil, err
	}
	down, err := net.Dial("tcp", j.Client)
	if err != nil {
		return nil, nil, err
	}
	host, user := peerKey(), peerKey()
	failed := make(chan error, 1)
	go func() {
		c, err := sshwire.Server(ctx, up, &sshwire.ServerConfig{Config: sshwire.Config{RekeyBytes: noRekey}, HostKeys: []ssh.Signer{host}, Auth: anyKey})
		target = newPeer(c)
		failed <- err
	}()
	c, err := sshwire.Client(ctx, down, &sshwire.ClientConfig{
		Config: sshwire.Config{RekeyBytes: noRekey}, User: "ann", Auth: []sshwire.ClientAuth{sshwire.PublicKeys(user)}, HostKey: anyHost,
	})
	if err := errors.Join(err, <-failed); err != nil {
		return nil, nil, err
	}
	client = newPeer(c)
	if err := client.say(sshwire.ChannelOpen{Type: "session", Window: peerWindow, MaxPacket: peerPacket}); err != nil {
		return nil, nil, err
	}
	if _, err := target.ReadPacket(); err != nil {
		return nil, nil, err
	}
	if err := target.say(sshwire.ChannelOpenConfirmation{Window: peerWindow, MaxPacket: peerPacket}); err != nil {
		return nil, nil, err
	}
	_, err = client.ReadPacket()
	return client, target, err
}

var anyKey = sshwire.ServerAuth{PublicKey: func(sshwire.Meta, ssh.PublicKey, bool) error { return nil }}

func anyHost(net.Addr, ssh.PublicKey) error { return nil }

func peerKey() ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		panic(err)
	}
	return s
}

func newPeer(c *sshwire.Conn) *peer {
	p := &peer{Conn: c, window: peerWindow}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func (p *peer) say(m message) error {
	if err := p.WritePacket(m.Append(nil)); err != nil {
		return err
	}
	return p.Flush()
}

// stream sends packets one way within the window, each in a write of its own as sshd does; the window is refilled when
// three packets are used up, as OpenSSH does.
func stream(from, to *peer, packets int) error {
	failed := make(chan error, 2)
	adjusts := packets / 3
	go func() { failed <- from.refill(adjusts) }()
	go func() {
		data := make([]byte, peerPacket)
		_, _ = rand.Read(data)
		p := sshwire.ChannelData{Data: data}.Append(nil)
		for range packets {
			from.mu.Lock()
			for from.window < peerPacket {
				from.cond.Wait()
			}
			from.window -= peerPacket
			from.mu.Unlock()
			if err := errors.Join(from.WritePacket(p), from.Flush()); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for i := range packets {
		p, err := to.ReadPacket()
		if err != nil {
			return err
		}
		if len(p) != peerPacket+9 {
			return fmt.Errorf("a packet of %d bytes came", len(p))
		}
		if i%3 == 2 {
			if err := to.say(sshwire.ChannelWindowAdjust{Bytes: 3 * peerPacket}); err != nil {
				return err
			}
		}
	}
	err := errors.Join(<-failed, <-failed)
	from.mu.Lock()
	defer from.mu.Unlock()
	from.window = peerWindow // also for what is left over of three packets
	return err
}

// refill takes window adjusts.
func (p *peer) refill(adjusts int) error {
	for range adjusts {
		packet, err := p.ReadPacket()
		if err != nil {
			return err
		}
		m, err := sshwire.ParseChannelWindowAdjust(packet)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.window += int(m.Bytes)
		p.cond.Broadcast()
		p.mu.Unlock()
	}
	return nil
}

// echo sends keys one after the other and times their way there and back.
func echo(client, target *peer, keys int, pause time.Duration) (told, error) {
	failed := make(chan error, 1)
	go func() {
		for range keys {
			p, err := target.ReadPacket()
			if err == nil {
				err = errors.Join(target.WritePacket(p), target.Flush())
			}
			if err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	var times []time.Duration
	key := sshwire.ChannelData{Data: []byte("k")}
	for range keys {
		time.Sleep(pause)
		start := time.Now()
		if err := client.say(key); err != nil {
			return told{}, err
		}
		if _, err := client.ReadPacket(); err != nil {
			return told{}, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return told{times[keys/2], times[keys*99/100]}, <-failed
}

// startPeers runs the peers in a process of their own and waits until their sessions stand. Each call of the function
// it returns makes them do their job once.
func startPeers(tb testing.TB, j job) func() told {
	tb.Helper()
	b, err := json.Marshal(j)
	must(tb, err)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), peersEnv+"="+string(b))
	var complaints bytes.Buffer
	c.Stderr = &complaints
	stdin, err := c.StdinPipe()
	must(tb, err)
	stdout, err := c.StdoutPipe()
	must(tb, err)
	must(tb, c.Start())
	lines := bufio.NewReader(stdout)
	tb.Cleanup(func() {
		stdin.Close()
		_ = c.Process.Kill() // it holds nothing that matters
		_ = c.Wait()
	})
	line := func() string {
		s, err := lines.ReadString('\n')
		if err != nil {
			tb.Fatalf("peers: %v: %s", err, complaints.String())
		}
		return strings.TrimSpace(s)
	}
	line()
	return func() (out told) {
		if _, err := stdin.Write([]byte("\n")); err != nil {
			tb.Fatal(err)
		}
		if err := json.Unmarshal([]byte(line()), &out); err != nil {
			tb.Fatal(err)
		}
		return out
	}
}
