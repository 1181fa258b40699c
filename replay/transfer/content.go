package transfer

import (
	"cmp"
	"crypto/sha256"
	"hash"
	"slices"
)

// Reasons for a file to have no hash.
const (
	whyPartial  = "partial: it did not reach the end of the file"
	whyResumed  = "resumed: it did not begin at the start of the file"
	whyRandom   = "random access: parts are missing, came twice or in no order"
	whyAppended = "appended to what was there"
	whyKept     = "written over a file that was not truncated: what was behind it may still be there"
	whyCut      = "cut or lengthened after it was written"
	whyFailed   = "a write failed"
	whyUnseen   = "written on a handle before it was known"
	whyCopied   = "copied into at the target"
	whyAhead    = "too much came out of order"
	whyCutOff   = "not closed"
)

// maxExtents is how many runs of bytes are told apart.
const maxExtents = 16

// content follows what moves in one direction of one open file: it hashes the bytes in the order of their offsets.
type content struct {
	sum     hash.Hash
	next    uint64  // everything before it is hashed
	ahead   []chunk // by offset: what came before its turn
	why     string  // why there is no hash; the first reason stays
	bytes   uint64
	extents []Extent // by offset, none touching the next
	omitted bool
}

type chunk struct {
	offset uint64
	data   []byte
}

// chunkCost is what a chunk takes besides its bytes.
const chunkCost = 64

func (k *chunk) cost() int { return chunkCost + len(k.data) }

func newContent() *content { return &content{sum: sha256.New()} }

// giveUp ends the hashing. room is the channel's budget for chunks, in bytes.
func (c *content) giveUp(room *int, why string) {
	for _, k := range c.ahead {
		*room += k.cost()
	}
	c.ahead = nil
	if c.why == "" {
		c.why = why
	}
}

// hash takes bytes that were sent, in any order.
func (c *content) hash(room *int, offset uint64, data []byte) {
	switch {
	case c.why != "" || len(data) == 0:
	case offset == c.next:
		c.sum.Write(data)
		c.next += uint64(len(data))
		c.catchUp(room)
	case offset < c.next, offset+uint64(len(data)) < offset:
		c.giveUp(room, whyRandom)
	default:
		c.keep(room, offset, data)
	}
}

// keep holds what came early. Pieces of one packet are joined, so that small ones cost no more than their bytes.
func (c *content) keep(room *int, offset uint64, data []byte) {
	i, found := slices.BinarySearchFunc(c.ahead, offset, func(k chunk, o uint64) int { return cmp.Compare(k.offset, o) })
	joins := i > 0 && c.ahead[i-1].offset+uint64(len(c.ahead[i-1].data)) == offset
	cost := len(data)
	if !joins {
		cost += chunkCost
	}
	switch {
	case found:
		c.giveUp(room, whyRandom)
	case cost > *room, !joins && len(c.ahead) == maxChunks:
		c.giveUp(room, whyAhead)
	case joins:
		*room -= cost
		c.ahead[i-1].data = append(c.ahead[i-1].data, data...)
	default:
		*room -= cost
		c.ahead = slices.Insert(c.ahead, i, chunk{offset, slices.Clone(data)})
	}
}

// maxChunks bounds the pieces of one file that wait for their turn.
const maxChunks = 1024

// catchUp hashes the chunks whose turn has come.
func (c *content) catchUp(room *int) {
	done := 0
	for _, k := range c.ahead {
		if k.offset != c.next {
			break
		}
		c.sum.Write(k.data)
		c.next += uint64(len(k.data))
		*room += k.cost()
		done++
	}
	if done > 0 {
		c.ahead = slices.Delete(c.ahead, 0, done)
	}
	if len(c.ahead) > 0 && c.ahead[0].offset < c.next {
		c.giveUp(room, whyRandom)
	}
}

// moved counts bytes that arrived.
func (c *content) moved(offset, n uint64) {
	if n == 0 {
		return
	}
	c.bytes += n
	if last := len(c.extents) - 1; last >= 0 && c.extents[last].end() == offset {
		c.extents[last].Length += n
		return
	}
	c.addExtent(Extent{offset, n})
}

func (e Extent) end() uint64 { return e.Offset + e.Length }

// addExtent merges e with all that it touches.
func (c *content) addExtent(e Extent) {
	from, _ := slices.BinarySearchFunc(c.extents, e.Offset, func(k Extent, o uint64) int { return cmp.Compare(k.end(), o) })
	to := from
	for to < len(c.extents) && c.extents[to].Offset <= e.end() {
		end := max(e.end(), c.extents[to].end())
		e.Offset = min(e.Offset, c.extents[to].Offset)
		e.Length = end - e.Offset
		to++
	}
	if from == to && len(c.extents) == maxExtents {
		c.omitted = true
		return
	}
	c.extents = slices.Replace(c.extents, from, to, e)
}

// finish says why there is no hash, if there is none. whole says what a file lacks that ends at the given place.
func (c *content) finish(room *int, whole func(end uint64) string) {
	switch {
	case c.why == "" && len(c.ahead) == 0 && c.next == c.bytes:
		c.why = whole(c.next)
	case c.why == "", c.why == whyRandom, c.why == whyAhead:
		why := c.why
		if why == "" {
			why = whyRandom
		}
		if len(c.extents) == 1 && c.extents[0].Offset > 0 {
			why = whyResumed
		}
		c.why = ""
		c.giveUp(room, why)
	}
}
