package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

var sizes = []int{100, 32 << 10, 256 << 10}

// BenchmarkSeal sets DataKey beside the same cipher from the standard library
// and from tink, in one run.
func BenchmarkSeal(b *testing.B) {
	raw := newKeyBytes().Bytes()
	block, err := aes.NewCipher(raw)
	must(b, err)
	std, err := cipher.NewGCM(block)
	must(b, err)
	direct, err := tinkaead.NewAESGCM(raw)
	must(b, err)
	handle, err := keyset.NewHandle(aead.AES256GCMNoPrefixKeyTemplate())
	must(b, err)
	managed, err := aead.New(handle)
	must(b, err)
	s := newTestSite(b)
	key, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(b, err)
	ad, err := here.encode()
	must(b, err)

	for _, n := range sizes {
		plain, buf := make([]byte, n), make([]byte, 0, n+Overhead)
		for _, c := range []struct {
			name string
			seal func() error
		}{
			{"datakey", func() error { _, err := key.Seal(buf, plain, here); return err }},
			{"stdlib", func() error {
				nonce := buf[:12]
				_, _ = rand.Read(nonce)
				std.Seal(nonce, nonce, plain, ad)
				return nil
			}},
			{"tink-subtle", func() error { _, err := direct.Encrypt(plain, ad); return err }},
			{"tink-keyset", func() error { _, err := managed.Encrypt(plain, ad); return err }},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					must(b, c.seal())
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s := newTestSite(b)
	s.unseal(b)
	key, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(b, err)
	for _, n := range sizes {
		sealed, err := key.Seal(nil, make([]byte, n), here)
		must(b, err)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				_, err := key.Open(sealed, here)
				must(b, err)
			}
		})
	}
}

// BenchmarkNewKey is what a session start pays: draw, wrap, and a durable put.
func BenchmarkNewKey(b *testing.B) {
	for _, workers := range []int{1, 32} {
		b.Run(fmt.Sprintf("at-once-%d", workers), func(b *testing.B) {
			s := newTestSite(b)
			b.SetParallelism(workers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					k, err := s.sealer.NewKey(context.Background(), uuid.New())
					if err != nil {
						b.Error(err)
						return
					}
					k.Release()
				}
			})
		})
	}
}

func BenchmarkLoadKey(b *testing.B) {
	s := newTestSite(b)
	s.unseal(b)
	k, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(b, err)
	id := k.ID()
	k.Release()
	for b.Loop() {
		k, err := s.sealer.Key(context.Background(), id)
		must(b, err)
		k.Release()
	}
}

func BenchmarkOpenTable(b *testing.B) {
	const keys = 100_000
	image := emptyTable()
	for range keys {
		id := uuid.New()
		slot, err := encodeSlot(wordLive, entry{id: id, wrap: testWrap(id, 1)})
		must(b, err)
		image = append(image, slot...)
	}
	for len(image)%chunkSize != 0 {
		image = append(image, zeroSlot...)
	}
	path := filepath.Join(b.TempDir(), "keys")
	must(b, createFile(path, 0o600, image))
	b.SetBytes(int64(len(image)))
	for b.Loop() {
		table, err := OpenKeyTable(path, TableOptions{})
		must(b, err)
		if !table.Has(uuid.UUID(image[chunkSize+idAt : chunkSize+siteAt])) {
			b.Fatal("key missing")
		}
		must(b, table.Close())
	}
}
