// Package faults breaks runs on purpose: kills, full disks, failing system calls, signals, limits, damage.
//
// Each try is a first run of one image with a fault in it, then a run without. Whatever the fault, a run that
// exits with 0 has seen the right tree, the next run is right, nothing of the first is left after the next one that unpacks, and no process outlives its run.
//
//	make build && go test ./test/faults -v -run 'TestFaults/kill'
//
// DLRUN_TEST_FAULTS=long makes many tries of each, as `make faults` does, which puts the table of what came of them into
// docs/reliability.md too.
package faults
