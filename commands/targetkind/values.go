package targetkind

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	namePattern      = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	attributePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
)

func isText(value string) error {
	switch {
	case len(value) > maxValue:
		return fmt.Errorf("the value has %d bytes, the limit is %d", len(value), maxValue)
	case !utf8.ValidString(value):
		return errors.New("the value is not valid UTF-8")
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("the value contains a line break or another control character")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("%.80q is none of %s", value, strings.Join(values, ", "))
		}
		return nil
	}
}

func isName(value string) error {
	if !namePattern.MatchString(value) {
		return fmt.Errorf("%.80q is not a name; use 1 to 32 lower-case letters, digits, _ and -, beginning with a letter", value)
	}
	return nil
}

func isAttribute(value string) error {
	if !attributePattern.MatchString(value) {
		return fmt.Errorf("%.80q is not the name of an attribute", value)
	}
	return nil
}

func isTemplate(value string) error {
	if err := isText(value); err != nil {
		return err
	}
	if strings.Count(value, Account) != 1 {
		return fmt.Errorf("write %s once, where the account's name belongs", Account)
	}
	return nil
}

func isDN(value string) error {
	if err := isText(value); err != nil {
		return err
	}
	if !strings.Contains(value, "=") {
		return fmt.Errorf("%.80q is not a DN, such as cn=admin,dc=example,dc=net", value)
	}
	return nil
}

func isPath(value string) error {
	if err := isText(value); err != nil {
		return err
	}
	if strings.HasPrefix(value, "-") || strings.HasSuffix(value, "/") || slices.Contains(strings.Split(value, "/"), "..") {
		return fmt.Errorf("%.80q does not name a file, absolute or below the home directory", value)
	}
	return nil
}

func isCA(value string) error {
	if len(value) > maxCA {
		return fmt.Errorf("the certificates have %d bytes, the limit is %d", len(value), maxCA)
	}
	n, rest := 0, []byte(value)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("there is a PEM block %.80q among the certificates", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return errors.New("one of the certificates can't be read")
		}
		n++
	}
	if n == 0 || strings.TrimSpace(string(rest)) != "" {
		return errors.New("give certificates in PEM form, and nothing else")
	}
	return nil
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_.:%/-]{1,255}$`)

// isHost takes what stands behind the @ of a MySQL user.
func isHost(value string) error {
	if !hostPattern.MatchString(value) {
		return fmt.Errorf("%.80q is not the host part of a user, such as %% or 10.0.0.%%", value)
	}
	return nil
}
