// Package e2e tests holdfast from outside: the real binary, stock clients and
// a stock sshd, on loopback. The scripts in testdata/script tell what a user
// does; attack-*.txtar tell what an attacker tries.
package e2e
