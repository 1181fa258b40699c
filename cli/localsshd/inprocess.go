package localsshd

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"os/user"
	"sync"

	"golang.org/x/crypto/ssh"
)

// InProcess is a small SSH server inside this program, for machines without an
// sshd: it takes one password and runs commands with /bin/sh, without a pty.
type InProcess struct {
	Addr     string
	User     string
	HostKey  string // authorized_keys form
	Password string

	listener net.Listener
	config   *ssh.ServerConfig
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// StartInProcess starts the server on loopback, until Stop.
func StartInProcess(ctx context.Context) (*InProcess, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find the current user: %w", err)
	}
	private, public, err := newKey()
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, err
	}
	s := &InProcess{User: me.Username, HostKey: public, Password: rand.Text()}
	s.config = &ssh.ServerConfig{PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if c.User() == s.User && subtle.ConstantTimeCompare(password, []byte(s.Password)) == 1 {
			return nil, nil
		}
		return nil, errors.New("wrong user or password")
	}}
	s.config.AddHostKey(signer)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start an SSH server: %w", err)
	}
	s.Addr = s.listener.Addr().String()
	ctx, s.cancel = context.WithCancel(ctx)
	s.work.Go(func() { s.accept(ctx) })
	return s, nil
}

// Stop ends the server and its sessions and waits for them.
func (s *InProcess) Stop() error {
	s.cancel()
	err := s.listener.Close()
	s.work.Wait()
	return err
}

func (s *InProcess) accept(ctx context.Context) {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed by Stop
		}
		s.work.Go(func() { s.serve(ctx, c) })
	}
}

func (s *InProcess) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return // a client that does not log in gets nothing
	}
	s.work.Go(func() { ssh.DiscardRequests(requests) })
	for open := range channels {
		if open.ChannelType() != "session" {
			_ = open.Reject(ssh.UnknownChannelType, "sessions only") // the client may be gone
			continue
		}
		channel, requests, err := open.Accept()
		if err != nil {
			return
		}
		s.work.Go(func() { session(ctx, channel, requests) })
	}
}

// session runs the one command that a channel asks for.
func session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var command struct{ Line string }
		ok := r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil
		if r.WantReply && r.Reply(ok || r.Type == "env", nil) != nil {
			return
		}
		if !ok {
			continue
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{run(ctx, channel, command.Line)}))
		return
	}
}

func run(ctx context.Context, channel ssh.Channel, line string) uint32 {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 127
	}
	go func() { // ends with the channel, which session closes after the command
		buf := make([]byte, 32<<10)
		for {
			n, err := channel.Read(buf)
			if _, werr := stdin.Write(buf[:n]); err != nil || werr != nil {
				stdin.Close()
				return
			}
		}
	}()
	if err := cmd.Wait(); err == nil {
		return 0
	}
	return uint32(max(cmd.ProcessState.ExitCode(), 1))
}
