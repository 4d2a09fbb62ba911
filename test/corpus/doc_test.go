// Package corpus holds images that are odd and images that are hostile, and what must become of each when the built
// binary runs it as an ordinary user.
//
// An image is written as one thinks of it:
//
//	{name: "opaque after its siblings",
//		image: layers(tarOf(dir("d"), file("d/old", "x")), tarOf(file("d/new", "y"), opaque("d"))),
//		want:  checks(hasFile("d/new", "y"), lacks("d/old"))},
//
// What the specification allows (odd_*_test.go) must run, and everything that the run sees, names, types, modes, times to
// the nanosecond, attributes, links and content, must be what the oracle (oracle_test.go) makes of the same entries.
// It is a second, small implementation of the specification that works on nothing but a tree in memory. checks name
// what a case is about, lest both err alike.
//
// What leads outside, lies or exhausts (bad_*_test.go) must be refused: exit code 125, an error that says why, in bounded
// time and memory, with nothing changed outside of the store and neither a root nor work left in it. Some of it is
// harmless once it is read as the specification says; such a case says so and is compared with the oracle too.
//
// To run one:
//
//	make build && go test ./test/corpus -v -run 'TestCorpus/opaque'
package corpus
