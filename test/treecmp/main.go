// Command treecmp compares two root file systems path by path.
//
//	treecmp list [-ns] [-skip PATH]... ROOT > LISTING
//	treecmp diff A B
//
// list prints one line a path: type, mode, size, sha256, link target, hard-link
// group, modification time in seconds (-ns: to the nanosecond) and extended attributes. It runs inside a
// container as well as on a mounted image, needs nothing but itself, and leaves
// out owners, what is mounted below ROOT, /dev, and the paths to skip; those are
// noted at the head of the listing. A device and an empty file of mode 0, which
// is what an ordinary user can make of it, are both written as "dev".
//
// diff prints where two listings differ and exits 1 if they do. What either side
// skipped is not compared, nor are the directories that had to be made for it.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	same, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "treecmp:", err)
		os.Exit(2)
	}
	if !same {
		os.Exit(1)
	}
}

func run(args []string) (same bool, err error) {
	if len(args) > 0 && args[0] == "list" {
		var o Options
		set := flag.NewFlagSet("list", flag.ContinueOnError)
		set.Func("skip", "path below ROOT to leave out, with all below", func(s string) error {
			o.Skip = append(o.Skip, s)
			return nil
		})
		set.BoolVar(&o.Nanos, "ns", false, "times to the nanosecond")
		if err := set.Parse(args[1:]); err != nil {
			return false, err
		}
		if set.NArg() == 1 {
			out := bufio.NewWriter(os.Stdout)
			return true, errors.Join(List(out, set.Arg(0), o), out.Flush())
		}
	}
	if len(args) == 3 && args[0] == "diff" {
		differences, err := Diff(args[1], args[2])
		const most = 40
		for i, d := range differences {
			if i == most {
				fmt.Printf("… and %d more\n", len(differences)-most)
				break
			}
			fmt.Println(d)
		}
		return len(differences) == 0, err
	}
	return false, errors.New("usage: treecmp list [-ns] [-skip PATH]... ROOT | treecmp diff A B")
}
