package seal

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
)

// A member that sends another key under the name of a data key first, while the
// site is sealed or not, hides the right one for no longer than until it comes.
func TestAttackWrongWrapFirst(t *testing.T) {
	for name, unsealed := range map[string]bool{"sealed": false, "unsealed": true} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			maker, rogue, site := newTestSite(t), newTestSite(t), newTestSite(t)
			maker.unseal(t)
			rogue.unseal(t)
			if unsealed {
				site.unseal(t)
			}
			id, at := uuid.Must(uuid.NewV7()), Binding{Purpose: "test", ID: uuid.Must(uuid.NewV7())}
			key, err := maker.sealer.NewKey(ctx, id)
			must(t, err)
			sealed, err := key.Seal(nil, []byte("hunter2"), at)
			must(t, err)
			wrong, err := rogue.sealer.NewKey(ctx, id)
			must(t, err)
			wrong.Release()
			opens := func(k *DataKey) bool {
				b, err := k.Open(sealed, at)
				return err == nil && string(b) == "hunter2"
			}
			bad, err := rogue.sealer.WrapFor(ctx, id, site.public)
			must(t, err)
			good, err := maker.sealer.WrapFor(ctx, id, site.public)
			must(t, err)
			if _, err := site.sealer.Accept(ctx, id, bad); err != nil {
				t.Fatal(err)
			}
			if _, err := site.sealer.Accept(ctx, id, good); !errors.Is(err, ErrOtherWrap) {
				t.Fatalf("got %v", err)
			}
			if !unsealed {
				_, err := site.sealer.Contest(ctx, id, good, opens)
				wantErr(t, err, ErrSealed)
				site.unseal(t)
			}
			held, err := site.sealer.Key(ctx, id) // the wrong one, in use
			must(t, err)
			defer held.Release()
			if replaced, err := site.sealer.Contest(ctx, id, good, opens); err != nil || !replaced {
				t.Fatalf("replaced %t, %v", replaced, err)
			}
			if opens(held) {
				t.Error("the wrong key opens")
			}
			right, err := site.sealer.Key(ctx, id)
			must(t, err)
			defer right.Release()
			if !opens(right) {
				t.Error("the right key does not open")
			}
			if replaced, err := site.sealer.Contest(ctx, id, bad, opens); err != nil || replaced {
				t.Errorf("the wrong key came back: %t, %v", replaced, err)
			}
			again, err := maker.public.Wrap(id, newKeyBytes())
			must(t, err)
			again.To = site.public.to
			if replaced, err := site.sealer.Contest(ctx, id, again, opens); err == nil || replaced {
				t.Errorf("a wrap that does not open: %t, %v", replaced, err)
			}
			site.restart(t)
			site.unseal(t)
			kept, err := site.sealer.Key(ctx, id)
			must(t, err)
			defer kept.Release()
			if !opens(kept) {
				t.Error("after a restart the right key is gone")
			}
		})
	}
}
