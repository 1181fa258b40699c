package sshwire

import (
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

// legacy lists the algorithms that are only ever used where somebody asked for them, and where they belong.
var legacy = map[string]func(c *ClientConfig) *[]string{
	"diffie-hellman-group14-sha256": func(c *ClientConfig) *[]string { return &c.KeyExchanges },
	"diffie-hellman-group14-sha1":   func(c *ClientConfig) *[]string { return &c.KeyExchanges },
	"ecdh-sha2-nistp384":            func(c *ClientConfig) *[]string { return &c.KeyExchanges },
	"ecdh-sha2-nistp521":            func(c *ClientConfig) *[]string { return &c.KeyExchanges },
	"hmac-sha1":                     func(c *ClientConfig) *[]string { return &c.MACs },
	"hmac-sha1-96":                  func(c *ClientConfig) *[]string { return &c.MACs },
	ssh.KeyAlgoRSA:                  func(c *ClientConfig) *[]string { return &c.HostKeyAlgorithms },
}

// LegacyAlgorithms lists what [ClientConfig.Allow] takes, by name.
func LegacyAlgorithms() []string {
	var names []string
	for n := range legacy {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Allow adds legacy algorithms after all others. A config whose lists are nil gets the defaults first.
func (c *ClientConfig) Allow(names ...string) error {
	for _, n := range names {
		list, ok := legacy[n]
		if !ok {
			return fmt.Errorf("%q is not a legacy SSH algorithm that is known here", n)
		}
		for to, defaults := range map[*[]string][]string{
			&c.KeyExchanges: defaultKeyExchanges, &c.MACs: defaultMACs, &c.HostKeyAlgorithms: defaultHostKeyAlgorithms,
		} {
			if *to == nil {
				*to = slices.Clone(defaults)
			}
		}
		if to := list(c); !slices.Contains(*to, n) {
			*to = append(*to, n)
		}
	}
	return nil
}
