package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// attachTerminal puts this end's terminal in raw mode and gives the session a
// terminal of its size and kind, kept up as the size changes. The function
// that it returns puts the terminal back as it was. Where input or output is
// no terminal, nothing is done.
func (c *client) attachTerminal(ctx context.Context, session *ssh.Session) (func(), error) {
	in, inOK := terminalFile(c.stdin)
	out, outOK := terminalFile(c.stdout)
	if !inOK || !outOK {
		return func() {}, nil
	}
	cols, rows, err := term.GetSize(out)
	if err != nil {
		return nil, fmt.Errorf("read the size of the terminal: %w", err)
	}
	kind := c.getenv("TERM")
	if kind == "" {
		kind = "xterm"
	}
	if err := session.RequestPty(kind, rows, cols, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("ask the site for a terminal: %w", err)
	}
	before, err := term.MakeRaw(in)
	if err != nil {
		return nil, fmt.Errorf("set the terminal: %w", err)
	}
	stopSizes := followSize(ctx, out, func(cols, rows int) { _ = session.WindowChange(rows, cols) })
	return func() {
		stopSizes()
		_ = term.Restore(in, before)
	}, nil
}

// terminalFile gives the descriptor of a stream that is a terminal.
func terminalFile(stream any) (int, bool) {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// askOnTerminal asks for a secret on the process's own terminal, whatever
// standard input is. It is nil where there is none.
func askOnTerminal() func(prompt string) ([]byte, error) {
	tty, err := os.OpenFile(ttyName, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	_ = tty.Close()
	return func(prompt string) ([]byte, error) {
		tty, err := os.OpenFile(ttyName, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer tty.Close()
		if _, err := io.WriteString(tty, prompt); err != nil {
			return nil, err
		}
		secret, err := term.ReadPassword(int(tty.Fd()))
		_, _ = io.WriteString(tty, "\n")
		return secret, err
	}
}
