package console

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/uuid"
)

// APIVersion names the shape of the JSON answers. Fields are only ever added
// to it.
const APIVersion = "holdfast/v1"

// answer is the one object that --json gives.
type answer struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Items      any    `json:"items,omitempty"`
	Item       any    `json:"item,omitempty"`
	Conflicts  any    `json:"conflicts,omitempty"` // about the item: see conflict ls
	Next       string `json:"next,omitempty"`      // where the next part of a long list begins
	Stale      bool   `json:"stale,omitempty"`     // what was decided last may be missing
}

// answer makes the answer with one item.
func (c *call) answer(kind string, item any) answer {
	return answer{Kind: kind, APIVersion: APIVersion, Item: item, Stale: c.behind != nil}
}

// column is one column of a table over items of type T, or one line of the
// view of a single item.
type column[T any] struct {
	name string
	cell func(T) string
}

// list answers with several items of one kind.
func list[T any](c *call, kind string, items []T, columns []column[T]) error {
	return listPage(c, kind, items, "", columns)
}

// listPage is list for a part of a longer list.
func listPage[T any](c *call, kind string, items []T, next string, columns []column[T]) error {
	if c.json {
		if items == nil {
			items = []T{}
		}
		a := c.answer(kind, nil)
		a.Items, a.Next = &items, next
		return writeJSON(c.stdout, a)
	}
	rows := make([][]string, 0, len(items)+1)
	rows = append(rows, heads(columns))
	for _, item := range items {
		rows = append(rows, cells(columns, item))
	}
	if err := writeTable(c.stdout, rows); err != nil {
		return err
	}
	if next != "" {
		c.note("there is more: add --after %s", next)
	}
	return nil
}

// show answers with one item: a line for each of its columns.
func show[T any](c *call, kind string, item T, columns []column[T]) error {
	if c.json {
		return writeJSON(c.stdout, c.answer(kind, item))
	}
	values := cells(columns, item)
	rows := make([][]string, len(columns))
	for i, h := range heads(columns) {
		rows[i] = []string{strings.ToLower(h), values[i]}
	}
	return writeTable(c.stdout, rows)
}

// stream answers with one item of a stream: a line of its own.
func stream[T any](c *call, kind string, item T, columns []column[T]) error {
	if c.json {
		return writeJSON(c.stdout, c.answer(kind, item))
	}
	line := strings.Join(cells(columns, item), "  ")
	_, err := io.WriteString(c.stdout, strings.TrimRight(line, " ")+"\n")
	return err
}

func heads[T any](columns []column[T]) []string {
	var out []string
	for _, col := range columns {
		out = append(out, strings.ToUpper(col.name))
	}
	return out
}

func cells[T any](columns []column[T], item T) []string {
	var out []string
	for _, col := range columns {
		out = append(out, Printable(col.cell(item)))
	}
	return out
}

// writeTable sets rows out in columns two blanks apart, by the width that a
// terminal gives the characters. An empty cell is shown as "-".
func writeTable(w io.Writer, rows [][]string) error {
	var widths []int
	for _, row := range rows {
		for i := range row {
			if row[i] == "" {
				row[i] = "-"
			}
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], ansi.StringWidth(row[i]))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-ansi.StringWidth(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeJSON writes v as one line.
func writeJSON(w io.Writer, v any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	text := strings.TrimSuffix(b.String(), "\n")
	_, err := w.Write(append(printableJSON([]byte(text)), '\n'))
	return err
}

// errorAnswer is the JSON form of a [Fault].
type errorAnswer struct {
	Error struct {
		Code    string    `json:"code"`
		Message string    `json:"message"`
		Hint    string    `json:"hint,omitempty"`
		EventID uuid.UUID `json:"eventId,omitzero"`
	} `json:"error"`
}

// WriteFault writes f to w as text of two lines at most, or as one JSON object.
func WriteFault(w io.Writer, f *Fault, asJSON bool) {
	message := oneLine(f.Message)
	if asJSON {
		var a errorAnswer
		a.Error.Code, a.Error.Message, a.Error.Hint, a.Error.EventID = f.Exit.String(), message, f.Hint, f.Event
		_ = writeJSON(w, a) // nobody is left to tell when standard error is gone
		return
	}
	text := "error: " + Printable(message) + "\n"
	if f.Hint != "" {
		text += "hint: " + Printable(f.Hint) + "\n"
	}
	_, _ = io.WriteString(w, text)
}

// stamp shows a time as RFC 3339 in UTC to the second, the zero time as empty.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// yes shows a flag in a table.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
