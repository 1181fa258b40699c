package events

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Selector names many accounts in one text: ACCOUNT+LABELS. ACCOUNT is the
// login name or * for any; LABELS are KEY=VALUE pairs with commas between,
// all of which a target must have (a value of * is any value), or a single *
// for every target. A target's name holds no "=", so that a selector can't be
// read as an account. Stored in the form that [Selection.String] writes.
type Selector string

// Selection is a selector that was read.
type Selection struct {
	Account string  // login name; "*" for any
	Labels  []Label // by key; none for every target
}

// Label is one KEY=VALUE of a selector or of a target.
type Label struct{ Key, Value string }

const (
	anything  = "*"
	maxLabels = 16
)

var (
	labelKey       = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,62}$`)
	labelValue     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	selectorLogins = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`)
)

// IsSelector reports whether a text that names accounts is meant as a
// selector, not as one account.
func IsSelector(text string) bool {
	account, labels, ok := strings.Cut(text, "+")
	return ok && (account == anything || labels == anything || strings.Contains(labels, "="))
}

// ParseSelector reads a selector.
func ParseSelector(text string) (s Selection, err error) {
	account, labels, ok := strings.Cut(text, "+")
	switch {
	case !ok || len(text) > 4096:
		return s, errors.New("a selector is ACCOUNT+KEY=VALUE,... or ACCOUNT+*")
	case account != anything && !selectorLogins.MatchString(account):
		return s, fmt.Errorf("%.80q is neither an account name nor *", account)
	}
	s.Account = account
	if labels == anything {
		return s, nil
	}
	for _, pair := range strings.Split(labels, ",") {
		l, err := ParseLabel(pair)
		if l.Value == anything && labelKey.MatchString(l.Key) {
			err = nil
		}
		if err != nil {
			return s, err
		}
		s.Labels = append(s.Labels, l)
	}
	slices.SortFunc(s.Labels, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	for i := range s.Labels[1:] {
		if s.Labels[i].Key == s.Labels[i+1].Key {
			return s, fmt.Errorf("label %s is given twice, and a target has one value of it", s.Labels[i].Key)
		}
	}
	if len(s.Labels) > maxLabels {
		return s, fmt.Errorf("there are %d labels, the limit is %d", len(s.Labels), maxLabels)
	}
	return s, nil
}

// ParseLabel reads one KEY=VALUE as a target may have it. With an error it
// still gives both halves.
func ParseLabel(text string) (Label, error) {
	key, value, ok := strings.Cut(text, "=")
	l := Label{key, value}
	switch {
	case !ok || !labelKey.MatchString(key):
		return l, fmt.Errorf("%.80q is no label: write KEY=VALUE, the key in 1 to 63 small letters, digits, '.', '_' and '-', beginning with a letter", text)
	case !labelValue.MatchString(value):
		return l, fmt.Errorf("%.80q is no value of a label: use 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit", value)
	}
	return l, nil
}

// String is the one form of a selection: labels by key.
func (s Selection) String() string {
	if len(s.Labels) == 0 {
		return s.Account + "+" + anything
	}
	pairs := make([]string, len(s.Labels))
	for i, l := range s.Labels {
		pairs[i] = l.Key + "=" + l.Value
	}
	return s.Account + "+" + strings.Join(pairs, ",")
}

// Takes reports whether an account is selected: its name, and the labels of
// its target as label gives them.
func (s Selection) Takes(account string, label func(key string) (string, bool)) bool {
	if s.Account == "" || s.Account != anything && s.Account != account {
		return false
	}
	for _, l := range s.Labels {
		if v, ok := label(l.Key); !ok || l.Value != anything && l.Value != v {
			return false
		}
	}
	return true
}
