package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/gateway/mux"
	"github.com/holdfast-pam/holdfast/replay/screen"
	"github.com/holdfast-pam/holdfast/site"
)

const (
	// leastInterval is the shortest time between two refreshes of mesh top.
	leastInterval = 100 * time.Millisecond
	// firstRates is how long the first refresh measures rates.
	firstRates = time.Second
)

func (c *call) meshTop() *cobra.Command {
	var interval time.Duration
	var count int
	var cmd *cobra.Command
	cmd = c.verb("top", "Show the mesh as it is, again and again; q or Ctrl-C ends it", read, func([]string) error {
		if interval < leastInterval || interval > time.Hour {
			return usageError("--interval takes a time from %s to 1h", leastInterval)
		}
		if count < 0 {
			return usageError("--count takes a number from 0, which is for no end")
		}
		if !cmd.Flags().Changed("count") && (c.terminal == nil || c.json) {
			count = 1
		}
		return c.ended(c.top(interval, count))
	})
	cmd.Annotations[DrawsOnTerminal] = "yes"
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "time between two refreshes")
	cmd.Flags().IntVar(&count, "count", 0, "how many refreshes; 0 for no end (without a terminal, or with --json, 1 unless given)")
	cmd.Long = cmd.Short + `.

Lacks and rec lack are the decisions, and about how many bytes of recordings, that
a member is not known to hold and somebody does. Rtt is the round trip over the
link, clock by how much a member's clock is ahead of this site's. Sessions are those
that run at a member, holds the sites whose work it carries out besides its own. The
rates are what goes over the links between this site and a member.

Of a narrow terminal the columns that find no room are left out. Without a terminal
each refresh is a table, with --json one object on a line of its own.`
	return cmd
}

// topLine is one member in mesh top, with the rates since the refresh before.
type topLine struct {
	site.TopSite
	Rates topRates `json:"rates"`
	now   time.Time
}

// topRates are bytes a second over the links with a member.
type topRates struct {
	CtlIn  uint64 `json:"ctl_in"`
	CtlOut uint64 `json:"ctl_out"`
	RecIn  uint64 `json:"rec_in"`
	RecOut uint64 `json:"rec_out"`
}

// topView is a refresh of mesh top.
type topView struct {
	site.MeshTop
	Sites []topLine `json:"sites"`
}

// topColumns are in the order of their weight: the last ones are left out first.
var topColumns = []column[topLine]{
	{"site", func(l topLine) string { return l.Site }},
	{"state", func(l topLine) string { return l.State }},
	{"lacks", func(l topLine) string { return strconv.FormatUint(l.Lacks.Decisions, 10) }},
	{"rec lack", func(l topLine) string { return amount(l.Lacks.RecordingBytes) }},
	{"seen", func(l topLine) string {
		if l.LastSeen.IsZero() {
			return "never"
		}
		return max(0, l.now.Sub(l.LastSeen)).Round(100*time.Millisecond).String() + " ago"
	}},
	{"rtt", func(l topLine) string { return measured(l.RoundTrip) }},
	{"sessions", func(l topLine) string { return strconv.Itoa(l.Sessions) }},
	{"work", func(l topLine) string { return l.Work }},
	{"scheduled", func(l topLine) string { return l.Scheduled }},
	{"holds", func(l topLine) string { return strings.Join(l.Holds, " ") }},
	{"pair", func(l topLine) string { return l.Pair }},
	{"ctl in/s", func(l topLine) string { return amount(l.Rates.CtlIn) }},
	{"out/s", func(l topLine) string { return amount(l.Rates.CtlOut) }},
	{"rec in/s", func(l topLine) string { return amount(l.Rates.RecIn) }},
	{"out/s", func(l topLine) string { return amount(l.Rates.RecOut) }},
	{"clock", func(l topLine) string { return measured(l.ClockAhead) }},
	{"masked", func(l topLine) string { return strconv.FormatUint(l.Masked, 10) }},
	{"trouble", func(l topLine) string { return l.Trouble }},
}

// measured shows a time to a tenth of a millisecond.
func measured(s *float64) string {
	if s == nil {
		return ""
	}
	return time.Duration(*s * float64(time.Second)).Round(100 * time.Microsecond).String()
}

// amount shows bytes in three or four characters.
func amount(n uint64) string {
	units := "kMGTPE"
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	f, unit := float64(n)/1000, 0
	for f >= 999.5 {
		f, unit = f/1000, unit+1
	}
	if f < 9.95 {
		return strconv.FormatFloat(f, 'f', 1, 64) + units[unit:unit+1]
	}
	return strconv.FormatFloat(f, 'f', 0, 64) + units[unit:unit+1]
}

// meter makes rates out of what was counted.
type meter struct {
	before map[string]site.TopSite // by id
	at     time.Time               // with a monotonic reading
}

// take gives a refresh with the rates since the one before.
func (m *meter) take(top site.MeshTop, now time.Time) topView {
	v := topView{MeshTop: top, Sites: []topLine{}}
	past := now.Sub(m.at).Seconds()
	seen := map[string]site.TopSite{}
	for _, s := range top.Sites {
		l := topLine{TopSite: s, now: top.Time}
		if was, ok := m.before[s.ID.String()]; ok && past > 0 {
			rate := func(was, is uint64) uint64 { return uint64(float64(is-min(was, is)) / past) }
			l.Rates = topRates{rate(was.CtlIn, s.CtlIn), rate(was.CtlOut, s.CtlOut), rate(was.RecIn, s.RecIn), rate(was.RecOut, s.RecOut)}
		}
		seen[s.ID.String()] = s
		v.Sites = append(v.Sites, l)
	}
	m.before, m.at = seen, now
	return v
}

// title is the line above the members.
func (v topView) title() string {
	return fmt.Sprintf("mesh as seen by %s at %s  %d members  %d conflicts  %d doubts", Printable(v.Site), stamp(v.Time), len(v.Sites), v.Conflicts, v.Doubts)
}

func (v topView) rows() [][]string {
	rows := [][]string{heads(topColumns)}
	for _, l := range v.Sites {
		rows = append(rows, cells(topColumns, l))
	}
	return rows
}

// top shows the mesh until so many refreshes are shown (0 for no end), or the
// caller leaves.
func (c *call) top(interval time.Duration, count int) error {
	ctx, leave := context.WithCancel(c.ctx)
	defer leave()
	if c.terminal == nil || c.json {
		return c.refresh(ctx, interval, count, nil, c.topBlock)
	}
	b := newBoard(c.raw, c.terminal.Size)
	go leaveOnQ(c.stdin, leave)
	err := c.refresh(ctx, interval, count, b, b.show)
	if ctx.Err() != nil {
		err = nil // the caller left
	}
	return errors.Join(err, b.close())
}

// refresh shows the mesh again and again, and on a board once more when its
// terminal has another size.
func (c *call) refresh(ctx context.Context, interval time.Duration, count int, b *board, show func(topView) error) error {
	var rates meter
	var v topView
	next := func() (err error) {
		top, err := c.cfg.Site.MeshTop(ctx)
		if err == nil {
			v = rates.take(top, time.Now())
		}
		return err
	}
	if err := next(); err != nil {
		return err
	}
	pause := time.NewTimer(min(interval, firstRates))
	defer pause.Stop()
	var resized <-chan mux.Size
	if b != nil {
		resized = c.terminal.Resized
	}
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case size := <-resized:
			b.resize(Size{int(size.Columns), int(size.Rows)})
			if n == 0 {
				continue // nothing is shown yet
			}
		case <-pause.C:
			if err := next(); err != nil {
				return err
			}
			pause.Reset(interval)
			n++
		}
		if err := show(v); err != nil || n == count {
			return err
		}
	}
}

// topBlock writes a refresh as JSON, or as text for no terminal.
func (c *call) topBlock(v topView) error {
	if c.json {
		return writeJSON(c.stdout, c.answer("mesh.top", v))
	}
	if _, err := io.WriteString(c.stdout, v.title()+"\n"); err != nil {
		return err
	}
	return writeTable(c.stdout, v.rows())
}

// board shows refreshes in place on a terminal. What it writes is made of the
// cells of a screen, so no name can steer the terminal.
type board struct {
	w       io.Writer
	size    Size
	painter *screen.Painter
}

func newBoard(w io.Writer, size Size) *board {
	b := &board{w: w}
	b.resize(size)
	return b
}

// resize takes the size of the terminal; what is not known is the usual one.
func (b *board) resize(to Size) {
	if to.Columns <= 0 {
		to.Columns = 80
	}
	if to.Rows <= 0 {
		to.Rows = 24
	}
	b.size = to
	if b.painter == nil {
		b.painter = screen.NewPainter(to.Columns, to.Rows)
	}
	b.painter.Resize(to.Columns, to.Rows)
}

func (b *board) show(v topView) error {
	s := screen.New(screen.Options{Cols: b.size.Columns, Rows: b.size.Rows})
	s.Write([]byte("\x1b[?25l" + strings.Join(b.lines(v), "\r\n")))
	_, err := io.WriteString(b.w, b.painter.Paint(s))
	return err
}

// lines are what a terminal of the size has room for.
func (b *board) lines(v topView) []string {
	var text strings.Builder
	_ = writeTable(&text, narrowed(v.rows(), b.size.Columns)) // into memory
	all := append([]string{v.title()}, strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")...)
	switch most := b.size.Rows; {
	case len(all) <= most:
	case most == 1:
		all = all[:1]
	default:
		all = append(all[:most-1], fmt.Sprintf("and %d more members", len(all)-most+1))
	}
	for i := range all {
		all[i] = ansi.Truncate(all[i], b.size.Columns, "")
	}
	return all
}

// narrowed leaves out the last columns of a table that is wider than a terminal.
func narrowed(rows [][]string, width int) [][]string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 1)
			}
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	keep, used := 1, widths[0]
	for keep < len(widths) && used+2+widths[keep] <= width {
		used += 2 + widths[keep]
		keep++
	}
	out := make([][]string, len(rows))
	for i, row := range rows {
		out[i] = row[:keep]
	}
	return out
}

func (b *board) close() error {
	_, err := io.WriteString(b.w, b.painter.End())
	return err
}
