package sshwire

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestAllowAddsAfterTheDefaults(t *testing.T) {
	var c ClientConfig
	if err := c.Allow(LegacyAlgorithms()...); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.KeyExchanges[:len(defaultKeyExchanges)], defaultKeyExchanges) || c.MACs[0] != defaultMACs[0] {
		t.Errorf("defaults don't come first: %v, %v", c.KeyExchanges, c.MACs)
	}
	if c.HostKeyAlgorithms[len(c.HostKeyAlgorithms)-1] != ssh.KeyAlgoRSA {
		t.Errorf("host key algorithms %v", c.HostKeyAlgorithms)
	}
	if _, err := c.withDefaults(); err != nil {
		t.Errorf("a legacy name is not known: %v", err)
	}
	pinned := ClientConfig{HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}}
	if err := pinned.Allow("hmac-sha1"); err != nil || len(pinned.HostKeyAlgorithms) != 1 {
		t.Errorf("pinned host key algorithms became %v (%v)", pinned.HostKeyAlgorithms, err)
	}
	if err := new(ClientConfig).Allow("none"); err == nil {
		t.Error("an unknown name was taken")
	}
}
