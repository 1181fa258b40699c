//go:build cgo

// Command holdfast-pkcs11 stands between holdfast and a PKCS#11 token: it loads
// the token's library, which the main program, having no cgo, can't. It is
// started by holdfast, reads requests from standard input and answers on standard
// output (events/seal/token has the frames), and ends with its input. It takes
// no arguments, keeps nothing, and keeps itself out of core dumps.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/token"
)

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-pkcs11:", err)
		os.Exit(1)
	}
}

// serve answers requests until the input ends.
func serve(in io.Reader, out io.Writer) error {
	if err := seal.LockDown(); err != nil {
		return err
	}
	s := &session{}
	defer s.close()
	requests := bufio.NewReaderSize(in, 16) // no more than a length is read ahead of a PIN
	for {
		head, fields, err := token.ReadFrame(requests)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		answer, err := s.answer(token.Op(head), fields)
		for _, f := range fields {
			clear(f)
		}
		status := token.OK
		if err != nil {
			var bad *problem
			if status = token.Failed; errors.As(err, &bad) {
				status = bad.status
			}
			answer = []byte(err.Error())
		}
		err = token.WriteFrame(out, byte(status), answer)
		clear(answer)
		if err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
	}
}
