package console

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/kballard/go-shellquote"
)

// maxLine bounds a console line in bytes: room for several RSA public keys.
const maxLine = 32 << 10

// splitLine splits a console line into words as a POSIX shell would, quotes
// and backslashes included and expansion of any kind left out: $(cmd), ;, |
// and * are characters like any other.
func splitLine(line string) ([]string, error) {
	if len(line) > maxLine {
		return nil, usageError("the line is %d bytes long, the limit is %d", len(line), maxLine)
	}
	if !utf8.ValidString(line) {
		return nil, usageError("the line is not valid UTF-8")
	}
	for at, r := range line {
		if unicode.IsControl(r) {
			return nil, usageError("the line has a control character (U+%04X) at byte %d", r, at)
		}
	}
	words, err := shellquote.Split(line)
	if err != nil {
		return nil, &Fault{Exit: Usage, Message: fmt.Sprintf("split the line: %s", lowerFirst(err)), cause: err,
			Hint: "close every quote; the console reads a line as a shell would, without expansion"}
	}
	return words, nil
}
