package gateway

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Limits bounds what clients may take before and after they are known. Zero fields take the defaults.
type Limits struct {
	LoginGrace      time.Duration // from connection to a proven identity; reaching the target counts apart. Default 30 s
	Unauthenticated int           // connections at once that have not logged in. Default 200
	PerSource       int           // of those, from one address (IPv6: one /64). Default 64
	SourceRate      int           // new connections from one address in a second, with a burst of twice as many. Default 32
	Channels        int           // channels at once in one session. Default 256
	AnswerTime      time.Duration // for what a login is asked beside its key: a code, a reason. Default 2 min
	AskTime         time.Duration // for which a login waits until somebody decides on its request. Default 1 h
	TargetDial      time.Duration // to connect to a target. Default 10 s
	TargetLogin     time.Duration // to log in there once connected. Default 20 s
	StoragePause    time.Duration // how long sessions wait for a full log before they end. Default 10 s
	PeerTimeout     time.Duration // how long a side may acknowledge nothing before it counts as gone. Default 4 min
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
	duration(&l.AnswerTime, 2*time.Minute)
	duration(&l.AskTime, time.Hour)
	duration(&l.TargetDial, 10*time.Second)
	duration(&l.TargetLogin, 20*time.Second)
	duration(&l.StoragePause, 10*time.Second)
	duration(&l.PeerTimeout, 4*time.Minute)
	count(&l.Unauthenticated, 200)
	count(&l.PerSource, 64)
	count(&l.SourceRate, 32)
	return l
}

// door counts connections that have not logged in. When all places are taken, whoever is most of the crowd makes room:
// a newcomer takes the place of the longest-waiting connection of the address that has the most of them, or of its own
// address where that has as many as it may. So nobody is kept out for others' idle connections, of one address either.
type door struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	places  []*place // in the order of arrival
	sources map[string]*source
	rest    source    // all addresses that there was no room to remember
	swept   time.Time // when forget last ran
}

// place is one connection that has not logged in.
type place struct {
	source *source
	cut    func() // ends the connection
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

// What those are told who find no place.
const (
	tooFast = "too many new connections from your address at once; wait a second and try again"
	crowded = "too many connections that have not logged in; try again"
	// crowdedUser is for those who have proven a key and are asked for more.
	crowdedUser = "too many logins of yours wait for an answer; the newest one goes on"
)

func newDoor(l Limits, now func() time.Time) *door {
	return &door{limits: l, now: now, sources: map[string]*source{}, rest: source{notes: notesBurst, at: now()}}
}

// enter asks for a place; leave gives it back, once or more often. Without a place refused says why. cut is called if
// the place is needed for another before it was given back.
func (d *door) enter(addr net.Addr, cut func()) (leave func(), refused string) {
	p := &place{cut: cut}
	gone, refused := d.take(p, addr)
	if refused != "" {
		return nil, refused
	}
	if gone != nil {
		gone.cut()
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.free(p)
	}, ""
}

// take seats p and gives the place that was freed for it, nil for none.
func (d *door) take(p *place, addr net.Addr) (gone *place, refused string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.source(sourceKey(addr))
	if s != &d.rest { // those who share it would be refused for each other's sake; they are first to make room
		if s.tokens < 1 {
			return nil, tooFast
		}
		s.tokens--
		if s.waiting >= d.limits.PerSource { // who comes is likelier to log in than who has said nothing for longest
			gone = d.places[slices.IndexFunc(d.places, func(other *place) bool { return other.source == s })]
			d.free(gone)
		}
	}
	p.source = s
	s.waiting++
	d.places = append(d.places, p)
	if len(d.places) > d.limits.Unauthenticated {
		gone = d.places[0]
		for _, other := range d.places {
			if other.source.waiting > gone.source.waiting {
				gone = other
			}
		}
		d.free(gone)
	}
	return gone, ""
}

// free is called with mu held.
func (d *door) free(p *place) {
	if i := slices.Index(d.places, p); i >= 0 {
		d.places = slices.Delete(d.places, i, i+1)
		p.source.waiting--
	}
}

// note says whether the refusal of an unknown key may make an event, and how many made none before it.
func (d *door) note(addr net.Addr) (left int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.source(sourceKey(addr))
	if s.notes < 1 {
		s.left++
		return 0, false
	}
	left = s.left
	s.notes, s.left = s.notes-1, 0
	return left, true
}

// source finds an address and refills its bucket. When there is no room to remember one more, it is the bucket that all
// such addresses share.
func (d *door) source(key string) *source {
	now, burst := d.now(), float64(2*d.limits.SourceRate)
	s := d.sources[key]
	if s == nil && len(d.sources) >= maxSources && now.Sub(d.swept) >= time.Second {
		d.forget(now)
		d.swept = now
	}
	switch {
	case s != nil:
	case len(d.sources) >= maxSources:
		s = &d.rest
	default:
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
