// Package archtest holds the structure of the code as a failing test: which
// package may import which, that every package says what it is for, that no
// file links to one that is gone, and that nothing sleeps over a race.
package archtest
