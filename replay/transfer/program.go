package transfer

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Protocol is what a channel's program speaks, as far as transfers go.
type Protocol string

// The protocols that can be told apart. Anything else, a shell or "cat FILE" among it, moves bytes as well, but nothing
// says what they are: the recording has them, and no [Operation] does.
const (
	NoTransfer Protocol = ""
	SFTP       Protocol = "sftp"
	SCP        Protocol = "scp"
	Rsync      Protocol = "rsync" // opaque: told apart with its direction, not decoded
	Git        Protocol = "git"   // opaque too
)

// Program is what a channel runs.
type Program struct {
	Protocol  Protocol
	Direction Direction // of all but SFTP: the only one that it has
	Paths     string    // of all but SFTP: what stands behind the flags, joined by spaces
	// Certain is false for a command that looks like one of these but in which the target's shell, or a flag not known
	// here, may change what it does. It is decoded as what it looks like; a [Gate] that allows only one direction
	// refuses it.
	Certain bool
}

// CommandOf is what a request for a program asks for: the command of "exec", the name of "subsystem". It is empty for
// any other request, and for one that can't be read.
func CommandOf(m sshwire.ChannelRequest) string {
	switch m.Type {
	case "exec":
		if p, err := sshwire.ParseExecRequest(m.Payload); err == nil {
			return p.Command
		}
	case "subsystem":
		if p, err := sshwire.ParseSubsystemRequest(m.Payload); err == nil {
			return p.Name
		}
	}
	return ""
}

// ProgramOf reads a channel request: "subsystem" with its name, "exec" with its command line, or any other.
//
// Programs are known by their base name: "sftp" is the subsystem; sftp-server anywhere in a command is SFTP, since
// clients run it by sudo and in fallback scripts. The others are the first word, or follow such a program as sudo, which
// leaves it uncertain what they do.
func ProgramOf(request, command string) Program {
	switch {
	case request == "subsystem" && command == "sftp":
		return Program{Protocol: SFTP, Certain: true}
	case request != "exec":
		return Program{}
	}
	words, certain := split(command)
	for _, w := range words {
		if path.Base(w) == "sftp-server" {
			return Program{Protocol: SFTP, Certain: true}
		}
	}
	for i, w := range words {
		var p Program
		switch base, rest := path.Base(w), words[i+1:]; base {
		case "scp":
			p = scpProgram(rest, certain)
		case "rsync":
			p = rsyncProgram(rest, certain)
		default:
			p = gitProgram(base, rest, certain)
		}
		if p.Protocol != NoTransfer {
			p.Certain = p.Certain && i == 0
			return p
		}
	}
	return Program{}
}

// scpProgram reads the arguments of scp at the target: -f sends files from there, -t receives them. Given both it
// sends, but that is not to be relied on.
func scpProgram(args []string, certain bool) Program {
	var from, to bool
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		flags := args[0][1:]
		args = args[1:]
		if flags == "-" {
			break
		}
		from = from || strings.Contains(flags, "f")
		to = to || strings.Contains(flags, "t")
		certain = certain && strings.Trim(flags, "1246BCTdfpqrtv") == ""
	}
	p := Program{Protocol: SCP, Direction: Upload, Paths: strings.Join(args, " "), Certain: certain && from != to}
	if from {
		p.Direction = Download
	}
	if !from && !to {
		return Program{} // scp as a client, from the target to elsewhere
	}
	p.Certain = p.Certain && !slices.ContainsFunc(args, isOption) // some libraries take a flag behind a path
	return p
}

// The options of rsync --server that leave no doubt about where files go. Others read more options from the client
// (--daemon, -s) or change something at a sender (--remove-source-files, --log-file). What the next word is the value of
// stands in rsyncValued; as a flag, -B and -f take one too, and no client sends those so.
var (
	rsyncFlags   = regexp.MustCompile(`^-(B[0-9]+|[AC-LN-SU-Za-dg-rt-z0-9]*(e[0-9]*\.[0-9A-Za-z]*)?)$`)
	rsyncOptions = regexp.MustCompile(`^--(server|sender|append(-verify)?|block-size=.*|bwlimit=.*|checksum-choice=.*|checksum-seed=.*|` +
		`compare-dest|compress-choice=.*|compress-level=.*|copy-dest|copy-unsafe-links|delay-updates|delete(-\w+)?|existing|fake-super|force|from0|fuzzy|` +
		`groupmap=.*|iconv=.*|ignore-(errors|existing|missing-args)|info=.*|debug=.*|inplace|link-dest|list-only|log-format=.*|max-(delete|size)=.*|` +
		`min-size=.*|mkpath|modify-window=.*|munge-links|no-\w+(-\w+)*|numeric-ids|(new|old)-compress|one-file-system|partial(-dir)?|preallocate|safe-links|` +
		`size-only|skip-compress=.*|sparse|specials|stats|stop-\w+=.*|suffix=.*|super|temp-dir|timeout=.*|use-qsort|usermap=.*|zc=.*|zl=.*)$`)
	rsyncValued = []string{"--compare-dest", "--copy-dest", "--link-dest", "--partial-dir", "--temp-dir"}
)

// rsyncProgram reads the arguments of rsync --server: with --sender files come from there.
func rsyncProgram(args []string, certain bool) Program {
	if len(args) == 0 || args[0] != "--server" {
		return Program{}
	}
	p := Program{Protocol: Rsync, Direction: Upload, Certain: certain}
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case !isOption(a): // a dot, and the paths
			p.Paths = strings.TrimPrefix(strings.Join(args[i:], " "), ". ")
			// rsync takes options behind a path too, unless its environment says otherwise; no client sends any
			p.Certain = p.Certain && !slices.ContainsFunc(args[i:], isOption)
			return p
		case a == "--sender":
			p.Direction = Download
		case slices.Contains(rsyncValued, a) && i+1 < len(args):
			i++ // whatever it looks like, it is a directory
			p.Certain = p.Certain && !isOption(args[i])
		case !rsyncFlags.MatchString(a) && !rsyncOptions.MatchString(a):
			p.Certain = false
		}
	}
	return p
}

func isOption(word string) bool { return strings.HasPrefix(word, "-") }

// gitProgram reads what git runs at the target: git-upload-pack for who fetches, git-receive-pack for who pushes.
func gitProgram(base string, args []string, certain bool) Program {
	if base == "git" && len(args) > 0 {
		base, args = "git-"+args[0], args[1:]
	}
	p := Program{Protocol: Git, Paths: strings.Join(args, " "), Certain: certain}
	switch base {
	case "git-upload-pack", "git-upload-archive":
		p.Direction = Download
	case "git-receive-pack":
		p.Direction = Upload
	default:
		return Program{}
	}
	return p
}

// maxCommand is how much of a command line is read. What is longer is not certain.
const maxCommand = 64 << 10

// split cuts a command line into words as sh does (POSIX, Shell Command Language, sections 2.2 and 2.6.5), but expands
// nothing. certain is false if the line is more than one simple command, or if an expansion may make words that can't
// be seen here. Operators separate words.
func split(line string) (words []string, certain bool) {
	s := splitter{certain: len(line) <= maxCommand}
	line = line[:min(len(line), maxCommand)]
	for i := 0; i < len(line); i++ {
		i = s.step(line, i)
	}
	s.flush()
	return s.words, s.certain && s.quote == 0
}

type splitter struct {
	words   []string
	word    strings.Builder
	begun   bool // word counts, even if empty
	quote   byte // ' or " while inside
	certain bool
}

// step takes the character at i and returns where it ended.
func (s *splitter) step(line string, i int) int {
	c := line[i]
	switch {
	case s.quote == '\'' && c != '\'':
		s.add(c)
	case c == '\\' && i+1 < len(line):
		if next := line[i+1]; s.quote == '"' && strings.IndexByte("$`\"\\\n", next) < 0 {
			s.add(c)
		} else if i++; next != '\n' {
			s.add(next)
		}
	case c == s.quote:
		s.quote = 0
	case s.quote == 0 && (c == '\'' || c == '"'):
		s.quote, s.begun = c, true
	case c == '$' || c == '`':
		s.certain = false
		s.add(c)
	case s.quote == '"':
		s.add(c)
	case c == ' ' || c == '\t':
		s.flush()
	case strings.IndexByte(";&|<>()\n", c) >= 0:
		s.certain = false
		s.flush()
	default:
		if s.word.Len() == 0 && strings.IndexByte("*?[{~#", c) >= 0 {
			s.certain = s.certain && c == '~' // what it becomes may begin with a dash
		}
		s.add(c)
	}
	return i
}

func (s *splitter) add(c byte) {
	s.begun = true
	s.word.WriteByte(c)
}

func (s *splitter) flush() {
	if s.begun {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.begun = false
}
