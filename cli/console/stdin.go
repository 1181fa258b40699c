package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxInput bounds what a verb reads from standard input, in bytes.
const maxInput = 64 << 10

// input reads all of standard input, which must hold something.
func (c *call) input(what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(c.stdin, maxInput+1))
	switch {
	case err != nil:
		clear(b)
		return nil, fmt.Errorf("read %s from standard input: %w", what, err)
	case len(b) > maxInput:
		clear(b)
		return nil, usageError("%s on standard input is longer than %d bytes", what, maxInput)
	case len(bytes.TrimSpace(b)) == 0:
		return nil, &Fault{Exit: Usage, Message: "standard input holds no " + what,
			Hint: "pipe it in, for example: ... < FILE"}
	}
	return b, nil
}

// textInput is an argument as it is, or all of standard input for "-". Only the
// first flag of a call may read it.
func (c *call) textInput(what, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	b, err := c.input(what)
	return string(b), err
}

// trimNewline strips exactly one line end: \n or \r\n.
func trimNewline(b []byte) []byte {
	if t, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		return bytes.TrimSuffix(t, []byte("\r"))
	}
	return b
}

// newlines writes to a terminal in raw mode, where a line end needs a carriage
// return. What goes through it is text of our own, whole lines at a time.
type newlines struct{ w io.Writer }

func (n newlines) Write(p []byte) (int, error) {
	if _, err := n.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

const (
	ctrlC = 0x03
	ctrlD = 0x04
)

// keys is standard input from a terminal in raw mode: what its driver would do
// for a program is done here. Enter ends a line, Ctrl-D the input, Ctrl-C the
// call. Nothing is echoed.
type keys struct {
	mu   sync.Mutex
	more sync.Cond // on mu: typed or err changed
	// guarded by mu
	typed []byte
	err   error
}

var errTypedTooMuch = errors.New("more was typed than a verb reads")

// readKeys starts to read a terminal's input, so that Ctrl-C is seen even
// while no verb reads. The goroutine ends when the input does.
func readKeys(from io.Reader, interrupt func()) *keys {
	k := &keys{}
	k.more.L = &k.mu
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if k.take(buf[:n], err, interrupt) {
				return
			}
		}
	}()
	return k
}

// take adds what was typed, and reports whether the input has ended.
func (k *keys) take(typed []byte, err error, interrupt func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.more.Broadcast()
	defer clear(typed)
	for _, b := range typed {
		switch {
		case b == ctrlC:
			interrupt()
			k.err = errors.New("interrupted")
			return true
		case k.err != nil:
		case b == ctrlD:
			k.err = io.EOF
		case len(k.typed) > maxInput:
			k.err = errTypedTooMuch
		case b == '\r':
			k.typed = append(k.typed, '\n')
		default:
			k.typed = append(k.typed, b)
		}
	}
	if err != nil && k.err == nil {
		k.err = err
	}
	return err != nil
}

// Read gives what was typed, as it comes.
func (k *keys) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.typed) == 0 {
		if k.err != nil {
			return 0, k.err
		}
		k.more.Wait()
	}
	n := copy(p, k.typed)
	clear(k.typed[:n])
	k.typed = k.typed[n:]
	return n, nil
}
