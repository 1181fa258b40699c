package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// siteFile is what a running site leaves in its data directory, below run/,
// so that the local binary finds it: site.json.
type siteFile struct {
	SSH     string `json:"ssh"`     // address of the gateway
	HostKey string `json:"hostKey"` // authorized_keys form
}

// routeMarks make an SSH user name one that names a target at the gateway.
const routeMarks = "+:@#"

// maxSiteFile bounds site.json in bytes.
const maxSiteFile = 64 << 10

// destination is the gateway that verbs are sent to.
type destination struct {
	login   string        // SSH user name; who you are is a matter of the key
	addr    string        // host:port
	hostKey ssh.PublicKey // what the gateway must prove; nil leaves it to known_hosts
}

// destination finds the gateway: flags before the environment, a gateway's
// address before a data directory.
func (c *client) destination() (destination, error) {
	gateway, data := c.gateway, c.data
	switch {
	case gateway != "" && data != "":
		return destination{}, &console.Fault{Exit: console.Usage, Message: "--gateway and --data name two sites; give one of them"}
	case gateway == "" && data == "":
		gateway, data = c.getenv("HOLDFAST_GATEWAY"), c.getenv("HOLDFAST_DATA")
	}
	login := c.getenv("USER")
	if login == "" || strings.ContainsAny(login, routeMarks) {
		login = "holdfast"
	}
	if gateway != "" {
		return parseGateway(gateway, login)
	}
	if data == "" {
		data = c.defaultData()
	}
	return readSiteFile(data, login)
}

// defaultData is the data directory of a site that nobody gave a place.
func (c *client) defaultData() string {
	if dir := c.getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "holdfast")
	}
	return filepath.Join(c.getenv("HOME"), ".local", "share", "holdfast")
}

// parseGateway reads [USER@]HOST[:PORT]; an IPv6 address with a port stands in
// brackets. The default port is that of SSH, 22.
func parseGateway(s, login string) (destination, error) {
	bad := func(why string) (destination, error) {
		return destination{}, &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("gateway %q: %s", s, why),
			Hint: "write it as [USER@]HOST[:PORT]"}
	}
	rest := s
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		login, rest = s[:at], s[at+1:]
		if login == "" || strings.ContainsAny(login, routeMarks) {
			return bad("the user name before @ is empty or names a target")
		}
	}
	host, port := strings.Trim(rest, "[]"), "22"
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsRune(rest, ':') {
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return bad("no host and port")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("the port is not a number from 1 to 65535")
	}
	if host == "" || strings.ContainsAny(host, " /\t\n") {
		return bad("no host")
	}
	return destination{login: login, addr: net.JoinHostPort(host, port)}, nil
}

// readSiteFile finds the site that runs in a data directory of this machine.
func readSiteFile(data, login string) (destination, error) {
	name := filepath.Join(data, "run", "site.json")
	b, err := readBounded(name, maxSiteFile)
	if errors.Is(err, fs.ErrNotExist) {
		return destination{}, &console.Fault{Exit: console.Unavailable, Message: fmt.Sprintf("no site runs in %s", data),
			Hint: "start one with holdfast up --data DIR, or name a site with --gateway HOST:PORT or --data DIR"}
	} else if err != nil {
		return destination{}, fmt.Errorf("find the site: %w", err)
	}
	var f siteFile
	if err := json.Unmarshal(b, &f); err != nil {
		return destination{}, fmt.Errorf("find the site: %s: %w", name, err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(f.HostKey))
	if err != nil {
		return destination{}, fmt.Errorf("find the site: %s: hostKey: %w", name, err)
	}
	host, port, err := net.SplitHostPort(f.SSH)
	if err != nil {
		return destination{}, fmt.Errorf("find the site: %s: ssh: %w", name, err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1" // it listens everywhere, so here too
		if ip.Is6() {
			host = "::1"
		}
	}
	return destination{login: login, addr: net.JoinHostPort(host, port), hostKey: key}, nil
}

// readBounded reads a whole file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, err
}
