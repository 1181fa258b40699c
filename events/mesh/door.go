package mesh

import (
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// What somebody may do before it is known who they are, and what a member may do
// besides sending records, is counted by who does it, so that nobody uses up what
// others need.

// buckets give out tokens by key: burst at first, then rate a second. Of more keys
// than it remembers the rest share one bucket. Safe for concurrent use.
type buckets struct {
	rate, burst float64
	now         func() time.Duration

	mu    sync.Mutex // guards what follows
	all   map[string]*bucket
	rest  bucket
	swept time.Duration
}

type bucket struct {
	tokens float64
	at     time.Duration
	left   int // askings without a token since the last one that got one
}

// maxBuckets bounds the keys that are remembered.
const maxBuckets = 1024

func newBuckets(rate, burst float64, now func() time.Duration) *buckets {
	return &buckets{rate: rate, burst: burst, now: now, all: map[string]*bucket{}, rest: bucket{tokens: burst}}
}

// take asks for a token. With it comes how often there was none since the last one.
func (b *buckets) take(key string) (left int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	k := b.all[key]
	if k == nil && len(b.all) >= maxBuckets && now >= b.swept+time.Second {
		b.swept = now
		for key, k := range b.all {
			if b.refill(k, now); k.tokens >= b.burst && k.left == 0 {
				delete(b.all, key)
			}
		}
	}
	switch {
	case k != nil:
	case len(b.all) >= maxBuckets:
		k = &b.rest
	default:
		k = &bucket{tokens: b.burst, at: now}
		b.all[key] = k
	}
	if b.refill(k, now); k.tokens < 1 {
		k.left++
		return 0, false
	}
	k.tokens--
	left, k.left = k.left, 0
	return left, true
}

func (b *buckets) refill(k *bucket, now time.Duration) {
	k.tokens = min(b.burst, k.tokens+b.rate*(now-k.at).Seconds())
	k.at = now
}

// door counts connections to the mesh port that have not become part of a link.
// When all places are taken, whoever is most of the crowd makes room: a newcomer
// takes the place of the longest-waiting connection of the address that has the
// most of them. Addresses of links with members are kept in mind: a crowd of strangers,
// from however many addresses, does not keep a member from coming back. Nor do the
// addresses of a member that betrays keep anybody else out.
type door struct {
	mu       sync.Mutex // guards what follows
	waiting  []*waiting // in the order of arrival
	of       map[string]int
	regulars map[events.SiteID][]string // the addresses of each member's last links, the latest last
}

const (
	// maxRegulars bounds the addresses of one member that are kept in mind.
	maxRegulars = 4
	// regularsHave is how many places of an address that is kept in mind are no crowd.
	regularsHave = 8
	// regularsShare bounds those of all such addresses: newcomers need some too.
	regularsShare = maxHandshakes / 2
)

// remember keeps an address in mind of which a member has made a link.
func (d *door) remember(site events.SiteID, source string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.regulars == nil {
		d.regulars = map[events.SiteID][]string{}
	}
	at := slices.DeleteFunc(d.regulars[site], func(s string) bool { return s == source })
	at = append(at, source)
	d.regulars[site] = at[max(0, len(at)-maxRegulars):]
}

// forget keeps nothing in mind of who is no member any more.
func (d *door) forget(gone func(events.SiteID) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.regulars, func(site events.SiteID, _ []string) bool { return gone(site) })
}

func (d *door) knows(source string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.regular(source)
}

// regular is knows; under mu.
func (d *door) regular(source string) bool {
	for _, sources := range d.regulars {
		if slices.Contains(sources, source) {
			return true
		}
	}
	return false
}

// crowds are how many places of each address count for who is to make room; under mu.
func (d *door) crowds() map[string]int {
	crowds := maps.Clone(d.of)
	var regulars []string
	for source := range d.of {
		if d.regular(source) {
			regulars = append(regulars, source)
		}
	}
	for free := regularsHave; free > 0; free-- {
		all := 0
		for _, source := range regulars {
			all += min(free, d.of[source])
		}
		if all > regularsShare {
			continue
		}
		for _, source := range regulars {
			crowds[source] = max(0, d.of[source]-free)
		}
		break
	}
	return crowds
}

type waiting struct {
	source string
	conn   net.Conn
	gone   bool // it made room
}

// errCrowded is why a connection ended that made room.
var errCrowded = errors.New("it was one of too many that have not proven who they are, and made room")

// enter takes a place; leave gives it back, and says whether another one took it.
func (d *door) enter(conn net.Conn) (leave func() (gone bool)) {
	w := &waiting{source: sourceOf(conn.RemoteAddr()), conn: conn}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[string]int{}
	}
	d.waiting = append(d.waiting, w)
	d.of[w.source]++
	if len(d.waiting) > maxHandshakes {
		gone, crowds := d.waiting[0], d.crowds()
		for _, other := range d.waiting {
			if crowds[other.source] > crowds[gone.source] {
				gone = other
			}
		}
		d.free(gone)
		gone.gone = true
		_ = gone.conn.Close() // who serves it sees that and ends
	}
	return func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.free(w)
		return w.gone
	}
}

// free is called with mu held, once or more often.
func (d *door) free(w *waiting) {
	i := slices.Index(d.waiting, w)
	if i < 0 {
		return
	}
	d.waiting = slices.Delete(d.waiting, i, i+1)
	if d.of[w.source]--; d.of[w.source] == 0 {
		delete(d.of, w.source)
	}
}

// sourceOf is what counts as one address: an IPv4 one, or an IPv6 /64, which one
// household commands.
func sourceOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	if v4 := tcp.IP.To4(); v4 != nil {
		return v4.String()
	}
	return tcp.IP.Mask(net.CIDRMask(64, 128)).String()
}
