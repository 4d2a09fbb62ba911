package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// listing is what List wrote, by path.
type listing struct {
	skip  []string
	lines map[string]string
}

// Diff compares two listings and describes each path that differs.
func Diff(fileA, fileB string) ([]string, error) {
	a, err := read(fileA)
	if err != nil {
		return nil, err
	}
	b, err := read(fileB)
	if err != nil {
		return nil, err
	}
	if len(a.lines) == 0 || len(b.lines) == 0 {
		return nil, fmt.Errorf("empty listing: %d paths in %s, %d in %s", len(a.lines), fileA, len(b.lines), fileB)
	}
	skip := append(slices.Clone(a.skip), b.skip...)
	made := append(a.made(b.skip), b.made(a.skip)...)
	var out []string
	for _, p := range slices.Sorted(maps.Keys(union(a.lines, b.lines))) {
		la, inA := a.lines[p]
		lb, inB := b.lines[p]
		switch {
		case la == lb || below(p, skip) || below(p, made):
		case slices.ContainsFunc(made, func(m string) bool { return path.Dir(m) == p }) && sansTime(la) == sansTime(lb):
		case !inA:
			out = append(out, "+ "+lb)
		case !inB:
			out = append(out, "- "+la)
		default:
			out = append(out, "- "+la, "+ "+lb)
		}
	}
	return out, nil
}

// made are the topmost directories or files that had to be made on the other
// side, since l lacks them, so that something could be mounted at the given
// paths.
func (l *listing) made(mounts []string) []string {
	var list []string
	for _, m := range mounts {
		if below(m, l.skip) {
			continue
		}
		for top := m; top != "/"; top = path.Dir(top) {
			if _, ok := l.lines[top]; ok {
				break
			}
			m = top
		}
		if _, ok := l.lines[m]; !ok {
			list = append(list, m)
		}
	}
	return list
}

func below(p string, tops []string) bool {
	return slices.ContainsFunc(tops, func(t string) bool { return p == t || strings.HasPrefix(p, t+"/") })
}

func sansTime(line string) string {
	head, tail, ok := strings.Cut(line, " mtime=")
	if !ok {
		return line
	}
	_, tail, _ = strings.Cut(tail, " ")
	return head + " " + tail
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func read(file string) (*listing, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &listing{lines: map[string]string{}}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		text, skipped := strings.CutPrefix(s.Text(), "skip ")
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", file, text, err)
		}
		p, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", file, text, err)
		}
		if skipped {
			l.skip = append(l.skip, p)
		} else {
			l.lines[p] = text
		}
	}
	return l, s.Err()
}
