package e2e

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// stream is n bytes of reproducible noise.
func stream(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), n)
}

func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hexSum(h)
}

func hexSum(h hash.Hash) string { return fmt.Sprintf("%x", h.Sum(nil)) }

// Bytes come through whole, up and down, while both legs change their keys
// again and again: the client's by its RekeyLimit, the target's by the
// server's. The recording holds the same bytes.
func TestTransfersAcrossRekeys(t *testing.T) {
	size, limit := int64(48<<20), "4M"
	if full {
		size, limit = 3<<30, "256M"
	}
	in := install(t, "RekeyLimit "+limit)
	want := sum(t, stream(size))

	up := in.ssh("-o", "RekeyLimit="+limit, "-v", "target", "sha256sum; exit 3")
	up.Stdin = stream(size)
	var log strings.Builder
	up.Stderr = &log
	out, err := up.Output()
	if code := exitCode(err); code != 3 || !strings.HasPrefix(string(out), want) {
		t.Errorf("up: exit status %d, checksum %.64s, want 3 and %s", code, out, want)
	}
	if n := strings.Count(log.String(), "SSH2_MSG_NEWKEYS sent"); n < 5 {
		t.Errorf("the client changed its keys %d times, want several", n-1)
	}

	down := in.ssh("-o", "RekeyLimit="+limit, "target", "cat "+in.noise(size))
	h := sha256.New()
	down.Stdout = h
	if err := down.Run(); err != nil {
		t.Errorf("down: %v", err)
	}
	if got := hexSum(h); got != want {
		t.Errorf("down: checksum %s, want %s", got, want)
	}

	export := in.ssh("gw", "session export last --format raw")
	h.Reset()
	export.Stdout = h
	if err := export.Run(); err != nil {
		t.Errorf("export: %v", err)
	}
	if got := hexSum(h); got != want {
		t.Errorf("the recording differs from what was delivered: %s, want %s", got, want)
	}
	in.console("", "log verify")
}

// One GiB each way by scp, which speaks SFTP: checksums are equal.
func TestCopies(t *testing.T) {
	size := int64(32 << 20)
	if full {
		size = 1 << 30
	}
	in := install(t)
	from, there, back := in.noise(size), in.dir+"/there", in.dir+"/back"
	for _, c := range [][2]string{{from, "target:" + there}, {"target:" + there, back}} {
		out, err := exec.CommandContext(t.Context(), "scp", "-q", "-F", in.config, c[0], c[1]).CombinedOutput()
		if err != nil {
			t.Fatalf("scp %s %s: %v: %s", c[0], c[1], err, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "cmp", from, back).CombinedOutput(); err != nil {
		t.Errorf("the copy differs: %v: %s", err, out)
	}
}
