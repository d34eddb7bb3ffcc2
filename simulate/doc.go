// Package simulate tests the whole engine in simulated worlds. It has only tests.
//
// A world is a source with tables, a host or an engine of its own, a cache with a store,
// and some readers, together with the faults, delays and events that happen to them. A
// seed determines the world. It runs in a bubble of [testing/synctest], in which time is
// simulated: an hour passes at once. A model, which filters, sorts and joins the tables
// row by row, says which rows every reader must get. A reader gets these rows, or the
// first of them and then an error that something in the world explains. At the end no
// memory is held, no session is open and no goroutine is left.
//
//	make simulate SEEDS=100000         run the worlds of many seeds
//	make simulate SEED=17 SEEDS=1      repeat one
//
// A world that fails is made smaller as long as it still fails. The smallest one is
// printed with what happened in it and the command that repeats it.
//
// # What a seed determines
//
// All that the world itself decides is a function of the seed, of who acts, and of how
// often it has acted before: rows, delays, faults. No source of random numbers is shared,
// and delays differ in their nanoseconds, so that two actors rarely act at the same
// instant. Then a seed repeats exactly: the same things happen at the same times. What
// may vary is the order in which goroutines run that become ready at the same instant,
// such as a stream and those that read for it, or two readers that wait for the same
// event; which ready case a select takes; and the order of maps. In a world with Together
// many actors act at the same instant: it finds more, and repeats less exactly. The search
// for the smallest world therefore tries each world twice.
package simulate
