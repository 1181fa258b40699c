package gateway

import (
	"net"
	"sync"
	"time"
)

// Limits bounds what clients may take before and after they are known. Zero fields take the defaults.
type Limits struct {
	LoginGrace      time.Duration // from connection to a proven identity; reaching the target counts apart. Default 30 s
	Unauthenticated int           // connections at once that have not logged in. Default 100
	PerSource       int           // of those, from one address (IPv6: one /64). Default 16
	SourceRate      int           // new connections from one address in a second, with a burst of twice as many. Default 32
	Channels        int           // channels at once in one session. Default 256
	TargetDial      time.Duration // to connect to a target. Default 10 s
	TargetLogin     time.Duration // to log in there once connected. Default 20 s
	StoragePause    time.Duration // how long sessions wait for a full log before they end. Default 10 s
}

func (l Limits) withDefaults() Limits {
	duration := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	count := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	duration(&l.LoginGrace, 30*time.Second)
	duration(&l.TargetDial, 10*time.Second)
	duration(&l.TargetLogin, 20*time.Second)
	duration(&l.StoragePause, 10*time.Second)
	count(&l.Unauthenticated, 100)
	count(&l.PerSource, 16)
	count(&l.SourceRate, 32)
	return l
}

// door counts connections that have not logged in.
type door struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	waiting int
	sources map[string]*source
}

// source is one client address. It is forgotten when it has nothing open and its bucket is full again.
type source struct {
	waiting int
	tokens  float64
	at      time.Time
	notes   float64 // events that refusals of unknown keys may still make
	left    int     // refusals that made none since the last one that did
}

const (
	maxSources = 4096
	// notesBurst and notesEvery bound the events that unknown keys of one address make.
	notesBurst = 30
	notesEvery = 10 * time.Second
)

func newDoor(l Limits, now func() time.Time) *door {
	return &door{limits: l, now: now, sources: map[string]*source{}}
}

// enter asks for a place; leave gives it back, once or more often.
func (d *door) enter(addr net.Addr) (leave func(), ok bool) {
	key := sourceKey(addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.source(key)
	if s == nil || s.tokens < 1 || s.waiting >= d.limits.PerSource || d.waiting >= d.limits.Unauthenticated {
		return nil, false
	}
	s.tokens--
	s.waiting++
	d.waiting++
	var once sync.Once
	return func() {
		once.Do(func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			s.waiting--
			d.waiting--
		})
	}, true
}

// note says whether the refusal of an unknown key may make an event, and how many made none before it.
func (d *door) note(addr net.Addr) (left int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.source(sourceKey(addr))
	if s == nil {
		return 0, false
	}
	if s.notes < 1 {
		s.left++
		return 0, false
	}
	left = s.left
	s.notes, s.left = s.notes-1, 0
	return left, true
}

// source finds an address and refills its bucket; nil when there is no room to remember one more.
func (d *door) source(key string) *source {
	now, burst := d.now(), float64(2*d.limits.SourceRate)
	s := d.sources[key]
	if s == nil {
		if len(d.sources) >= maxSources {
			d.forget(now)
		}
		if len(d.sources) >= maxSources {
			return nil
		}
		s = &source{tokens: burst, notes: notesBurst, at: now}
		d.sources[key] = s
	}
	s.refill(now, float64(d.limits.SourceRate), burst)
	return s
}

func (s *source) refill(now time.Time, rate, burst float64) {
	if past := now.Sub(s.at).Seconds(); past > 0 {
		s.tokens = min(burst, s.tokens+past*rate)
		s.notes = min(notesBurst, s.notes+past/notesEvery.Seconds())
	}
	s.at = now
}

// forget drops the addresses that nothing is to be remembered of.
func (d *door) forget(now time.Time) {
	burst := float64(2 * d.limits.SourceRate)
	for key, s := range d.sources {
		if s.refill(now, float64(d.limits.SourceRate), burst); s.waiting == 0 && s.tokens >= burst && s.notes >= notesBurst {
			delete(d.sources, key)
		}
	}
}

// sourceKey is what counts as one client: an IPv4 address, or an IPv6 /64, which one household commands.
func sourceKey(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	if v4 := tcp.IP.To4(); v4 != nil {
		return v4.String()
	}
	return tcp.IP.Mask(net.CIDRMask(64, 128)).String()
}
