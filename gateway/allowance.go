package gateway

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// allowance is how long a session may last, and how long without input of its user: data that the client sends on any
// channel. Output, keepalives and window adjustments are no input. Zero is no limit.
type allowance struct {
	most, idle time.Duration

	input uint64       // bytes of input so far; guarded by session.order
	heard atomic.Int64 // when the last of it came, in nanoseconds since the session's start
}

func allowanceOf(t events.Terms) (most, idle time.Duration) {
	return time.Duration(t.MaxTime) * time.Second, time.Duration(t.Idle) * time.Second
}

// hear notes that the client has sent so many bytes of data by now.
func (a *allowance) hear(bytes uint64, at time.Duration) {
	if bytes != a.input {
		a.input = bytes
		a.heard.Store(int64(at))
	}
}

// over tells which limit is reached, or how long that will take.
func (a *allowance) over(now time.Duration) (detail, text string, left time.Duration) {
	if a.most > 0 {
		if left = a.most - now; left <= 0 {
			return "maximum time of the grant: " + inWords(a.most), "your grant lets a session last " + inWords(a.most), 0
		}
	}
	if a.idle > 0 {
		rest := time.Duration(a.heard.Load()) + a.idle - now
		if rest <= 0 {
			return "no input for " + inWords(a.idle), "you typed nothing for " + inWords(a.idle) + ", which is as long as your grant lets a session wait", 0
		}
		if left == 0 || rest < left {
			left = rest
		}
	}
	return "", "", left
}

// inWords is a duration as people write it.
func inWords(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// limitTime ends the session when its allowance is used up. It is a goroutine of run, where there is a limit.
func (s *session) limitTime() {
	s.allowance.heard.Store(int64(time.Since(s.started)))
	for {
		detail, text, left := s.allowance.over(time.Since(s.started))
		if detail != "" {
			s.End(events.EndedByPolicy, detail, "this session was ended: "+text)
			return
		}
		wait := time.NewTimer(left)
		select {
		case <-wait.C:
		case <-s.ended:
			wait.Stop()
			return
		}
	}
}
