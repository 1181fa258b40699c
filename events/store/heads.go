package store

import (
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events/evidence"
)

// HeadKeeper signs and stores the heads of one log, off the append path: at
// most one in every interval, when the log has moved, and a last one at Close.
// The stored head only ever covers durable records.
type HeadKeeper struct {
	log  Log
	key  *evidence.Key
	path string
	stop chan struct{}
	once sync.Once // closes stop
	done sync.WaitGroup

	mu   sync.Mutex
	head evidence.Head // the newest stored
	err  error         // of the last attempt
}

// KeepHeads starts to keep the heads of log in the file at path. last is the
// head that the file holds already, or the zero value.
func KeepHeads(log Log, key *evidence.Key, path string, last evidence.Head, every time.Duration) *HeadKeeper {
	k := &HeadKeeper{log: log, key: key, path: path, head: last, stop: make(chan struct{})}
	k.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = k.Sign() // kept for Err; the next tick tries again
			case <-k.stop:
				return
			}
		}
	})
	return k
}

// Sign stores a head of the log as it is now, unless the newest covers it.
func (k *HeadKeeper) Sign() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	size, root := k.log.Size()
	if size <= k.head.Size {
		return nil
	}
	head, err := k.key.Sign(size, root)
	if err == nil {
		err = head.Save(k.path)
	}
	if k.err = err; err == nil {
		k.head = head
	}
	return err
}

// Head is the newest stored head; its size is 0 when there is none.
func (k *HeadKeeper) Head() evidence.Head {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.head
}

// Err tells why the last head could not be stored, or nil. The log does not
// depend on it.
func (k *HeadKeeper) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// Close stores the last head and ends the keeper. Call it before the log is
// closed.
func (k *HeadKeeper) Close() error {
	k.once.Do(func() { close(k.stop) })
	k.done.Wait()
	return k.Sign()
}
