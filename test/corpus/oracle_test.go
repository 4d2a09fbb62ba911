package corpus

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// node is a file of the oracle's tree. Two names of one node are hard links.
type node struct {
	kind   byte // as in a tar header, devices as tar.TypeChar
	mode   int64
	mtime  time.Time
	text   string // content or link target
	xattrs map[string]string
	kids   map[string]*node
}

func newDir() *node {
	return &node{kind: tar.TypeDir, mode: 0o755, mtime: time.Unix(0, 0), kids: map[string]*node{}}
}

// oracle is the tree that a run of the layers sees.
func oracle(layers []archive) *node {
	root := newDir()
	for _, l := range layers {
		root.hide(l.entries)
		for _, e := range l.entries {
			if dir, base, kind := parse(e.Name); kind == 0 && e.Typeflag != tar.TypeXGlobalHeader {
				root.put(dir, base, e)
			}
		}
	}
	return root
}

// parse tells a name from a whiteout ('w'), an opaque marker ('o') and the book-keeping of AUFS ('a').
func parse(name string) (dir, base string, kind byte) {
	clean := path.Clean("/" + name)
	for c := range strings.SplitSeq(clean, "/") {
		if strings.HasPrefix(c, ".wh..wh.") && c != ".wh..wh..opq" {
			return "", "", 'a'
		}
	}
	dir, base = path.Split(clean)
	switch hidden, is := strings.CutPrefix(base, ".wh."); {
	case base == ".wh..wh..opq":
		return dir, "", 'o'
	case is:
		return dir, hidden, 'w'
	}
	return dir, base, 0
}

// hide applies what a layer hides, to lower layers only and so before all else of it.
func (n *node) hide(entries []entry) {
	for _, e := range entries {
		dir, base, kind := parse(e.Name)
		if kind != 'w' && kind != 'o' {
			continue
		}
		if d := n.resolve(dir, false); d != nil && kind == 'o' {
			clear(d.kids)
		} else if d != nil {
			delete(d.kids, base)
		}
	}
	for _, e := range entries {
		if dir, _, kind := parse(e.Name); kind == 'w' || kind == 'o' {
			n.resolve(dir, true)
		}
	}
}

// resolve finds a directory below n, through symlinks that never lead out of it. What is missing is made, or nil.
func (n *node) resolve(dir string, make bool) *node {
	at, todo := []*node{n}, strings.Split(dir, "/")
	for links := 0; len(todo) > 0; {
		c := todo[0]
		todo = todo[1:]
		top := at[len(at)-1]
		switch c {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		kid := top.kids[c]
		if kid != nil && kid.kind == tar.TypeSymlink {
			if links++; links > 100 {
				panic("the oracle is asked for a loop of links")
			}
			if path.IsAbs(kid.text) {
				at = at[:1]
			}
			todo = append(strings.Split(kid.text, "/"), todo...)
			continue
		}
		if kid == nil || kid.kind != tar.TypeDir {
			if !make {
				return nil
			}
			kid = newDir()
			top.kids[c] = kid
		}
		at = append(at, kid)
	}
	return at[len(at)-1]
}

// put makes what an entry says.
func (n *node) put(dir, base string, e entry) {
	parent := n.resolve(dir, true)
	if e.Typeflag == tar.TypeLink {
		toDir, toBase := path.Split(path.Clean("/" + e.Linkname))
		if d := n.resolve(toDir, false); d != nil && d.kids[toBase] != nil {
			parent.kids[base] = d.kids[toBase]
			return
		}
		panic(fmt.Sprintf("the oracle knows no %q", e.Linkname))
	}
	k := &node{kind: e.Typeflag, mode: e.Mode & 0o7777, mtime: e.ModTime, text: e.body}
	for key, v := range e.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if ok && strings.HasPrefix(name, "user.") && name != "user.rootlesscontainers" {
			if k.xattrs == nil {
				k.xattrs = map[string]string{}
			}
			k.xattrs[name] = v
		}
	}
	switch e.Typeflag {
	case tar.TypeDir:
		old := parent.kids[base]
		if base == "" {
			old = n
		}
		if old != nil && old.kind == tar.TypeDir {
			old.mode, old.mtime, old.xattrs = k.mode, k.mtime, k.xattrs
			return
		}
		k.kids = map[string]*node{}
	case tar.TypeSymlink:
		k.text, k.xattrs = e.Linkname, nil
	case tar.TypeBlock, tar.TypeChar:
		k.kind = tar.TypeChar
	case tar.TypeCont, tar.TypeGNUSparse, '\x00':
		k.kind = tar.TypeReg
	}
	parent.kids[base] = k
}

// listing is the tree in the form of treecmp.
func (n *node) listing() []string {
	first, count := map[*node]string{}, map[*node]int{}
	n.walk("", func(p string, k *node) {
		if count[k]++; count[k] == 1 {
			first[k] = p
		}
	})
	var lines []string
	n.walk("", func(p string, k *node) {
		fields := []string{strconv.Quote(p)}
		mode := fmt.Sprintf("%04o", k.mode)
		switch {
		case k.kind == tar.TypeChar, k.kind == tar.TypeReg && k.text == "" && k.mode == 0:
			lines = append(lines, fields[0]+" dev")
			return
		case k.kind == tar.TypeDir:
			fields = append(fields, "dir", mode)
		case k.kind == tar.TypeSymlink:
			fields = append(fields, "link", strconv.Quote(k.text))
		case k.kind == tar.TypeFifo:
			fields = append(fields, "fifo", mode)
		default:
			fields = append(fields, "file", mode, fmt.Sprintf("size=%d", len(k.text)), "sha256="+sha([]byte(k.text)))
		}
		fields = append(fields, fmt.Sprintf("mtime=%d.%09d", k.mtime.Unix(), k.mtime.Nanosecond()))
		for _, name := range slices.Sorted(maps.Keys(k.xattrs)) {
			if !strings.HasPrefix(name, "user.overlay.") {
				fields = append(fields, fmt.Sprintf("%s=%x", name, k.xattrs[name]))
			}
		}
		if k.kind == tar.TypeReg && count[k] > 1 {
			fields = append(fields, "group="+strconv.Quote(first[k]))
		}
		lines = append(lines, strings.Join(fields, " "))
	})
	return lines
}

func (n *node) walk(at string, visit func(p string, k *node)) {
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		k, p := n.kids[name], at+"/"+name
		visit(p, k)
		if k.kind == tar.TypeDir {
			k.walk(p, visit)
		}
	}
}
