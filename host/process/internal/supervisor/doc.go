// Package supervisor runs a program so that none of its descendants outlives it, or the
// process that started it. It does so on Linux only; elsewhere the package is empty.
//
// The supervisor is another copy of the running program, between that program and the
// one it starts. It is the parent of each descendant whose own parent has ended
// (PR_SET_CHILD_SUBREAPER), so that none of them gets away: not by a session or a process
// group of its own, nor by forking twice. The supervisor ends when no descendant is left.
//
// A program of the same user can stop or kill its supervisor. The host then kills the
// descendants that it knows.
//
// A program need not call anything for this: the supervisor takes over while the package
// is initialized, which is before the program's main and before most of its packages.
package supervisor
