package replay

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is what a side of the session sent where a text belongs: any bytes. Convert it to a string to get those; printed
// or in JSON it is harmless to a terminal.
type Text string

// String is t with what doesn't print written as \xNN or \uNNNN.
func (t Text) String() string {
	var b strings.Builder
	escape(&b, string(t))
	return b.String()
}

// MarshalJSON writes a string in which bytes that aren't UTF-8 became U+FFFD and what doesn't print is escaped.
func (t Text) MarshalJSON() ([]byte, error) { return appendQuoted(nil, string(t)), nil }

// appendQuoted appends s as a JSON string. Not encoding/json: that leaves DEL, C1 controls and characters that change
// the order of text as they are, and whoever shows the file in a terminal would run them.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; s == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		dst = appendRune(dst, r)
		s = s[size:]
	}
	return append(dst, '"')
}

// plainLen counts the bytes at the start of s that stand for themselves in a JSON string.
func plainLen(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

func appendRune(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case unicode.IsPrint(r):
		return utf8.AppendRune(dst, r)
	case r > 0xffff: // two halves: RFC 8259 section 7
		r -= 0x10000
		return appendHex(appendHex(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return appendHex(dst, r)
}

func appendHex(dst []byte, r rune) []byte {
	hex := strconv.FormatInt(int64(r), 16)
	return append(append(dst, `\u0000`[:6-len(hex)]...), hex...)
}

// escape writes text with what doesn't print, but line feed and tab, as an escape.
func escape(b *strings.Builder, text string) {
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\n' && r != '\t', r == 0x7f:
			b.WriteString(`\x`)
			b.WriteByte("0123456789abcdef"[text[0]>>4])
			b.WriteByte("0123456789abcdef"[text[0]&15])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.Write(appendRune(nil, r))
		}
		text = text[n:]
	}
}
