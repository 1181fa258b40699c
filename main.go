// Command holdfast is a privileged access platform: people and automation reach
// servers through it with their own identity, every byte is recorded before it
// is delivered, and nobody sees the secret that it injects.
package main

import (
	"os"

	"github.com/holdfast-pam/holdfast/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
