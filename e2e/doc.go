// Package e2e tests holdfast from outside: the real binary, stock clients and
// a stock sshd, on loopback. The scripts in testdata/script tell what a user
// does, attack-*.txtar what an attacker tries, and those in testdata/clients
// what other clients do.
package e2e
