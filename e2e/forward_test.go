package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// serve NAME [PATH] starts a service at $NAME_PORT of loopback, or at a socket:
// to each line it answers "NAME got LINE" and hangs up.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	name, network, addr := args[0], "tcp", "127.0.0.1:0"
	if len(args) > 1 {
		network, addr = "unix", ts.MkAbs(args[1])
	}
	l, err := net.Listen(network, addr)
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		ts.Setenv(name+"_PORT", strconv.Itoa(tcp.Port))
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed at the script's end
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
					fmt.Fprintf(c, "%s got %s", name, line) // who asked finds out what is missing
				}
			}()
		}
	}()
}

// ask [-socks HOST:PORT] ADDR TEXT ANSWER connects to ADDR, waiting for it to
// be there, and checks what it answers to TEXT. `! ask` wants no answer.
func cmdAsk(ts *testscript.TestScript, neg bool, args []string) {
	var to string
	if args[0] == "-socks" {
		to, args = args[1], args[2:]
	}
	c := dial(ts, args[0])
	defer c.Close()
	ts.Check(c.SetDeadline(time.Now().Add(20 * time.Second)))
	answer, err := "", error(nil)
	if to != "" {
		err = socks(c, to)
	}
	if err == nil {
		answer, err = ask(c, args[1])
	}
	switch {
	case neg && answer != "":
		ts.Fatalf("%s answers %q", args[0], answer)
	case !neg && (err != nil || strings.TrimSpace(answer) != args[2]):
		ts.Fatalf("%s answers %q, %v; want %q", args[0], answer, err, args[2])
	}
}

func ask(c net.Conn, text string) (string, error) {
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func dial(ts *testscript.TestScript, addr string) net.Conn {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout(network, addr, time.Second)
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nobody comes to listen: %v", err)
		}
	}
}

// socks asks a SOCKS5 proxy (RFC 1928) for a connection to a host by its name.
func socks(c net.Conn, to string) error {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	request := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	if _, err := c.Write(append(request, byte(n>>8), byte(n))); err != nil {
		return err
	}
	reply := make([]byte, 12) // method, then a reply with an IPv4 address
	if _, err := io.ReadFull(c, reply); err != nil {
		return err
	}
	if reply[1] != 0 || reply[3] != 0 {
		return errors.New("the proxy refuses")
	}
	return nil
}
