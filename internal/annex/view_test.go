package annex_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/internal/annex"
)

const (
	nested = `
		annex top/.git
		sub top mid
		annex top/mid/.git
		sub top/mid deep/inner
		annex top/mid/deep/inner/.git
		dir top/mid/deep/inner/d
		link top/mid/deep/inner/d/in ../.git/annex/objects/vK/PZ/K/K
		link top/mid/in .git/annex/objects/vK/PZ/K/K
		link top/in .git/annex/objects/vK/PZ/K/K`
	nestedObjects = "top/.git/annex/objects top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects"
)

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name, spec, dir string
		home            string // default "home"
		foreign         string // roots that belong to someone else, with all below
		datasets        string // "ro:PATH" or "PATH"
		objects         string
		read            string // annexed files that must be readable inside
	}{
		{name: "no repository", spec: `dir work/d`, dir: "work/d"},
		{name: "dataset", spec: `annex ds/.git
			link ds/in .git/annex/objects/vK/PZ/K/K`, dir: "ds", datasets: "ds", objects: "ds/.git/annex/objects", read: "ds/in"},
		{name: "subdirectory", spec: `annex ds/.git
			dir ds/a/b
			link ds/a/in ../.git/annex/objects/vK/PZ/K/K`, dir: "ds/a/b", datasets: "ds", objects: "ds/.git/annex/objects", read: "ds/a/in"},
		{name: "inside .git", spec: `annex ds/.git
			dir ds/.git/tmp/wkdir`, dir: "ds/.git/tmp/wkdir", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "git without annex", spec: `git ds/.git`, dir: "ds", datasets: "ds"},
		{name: "home not made yet", spec: `annex ds/.git`, dir: "ds", home: "none", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "sibling's name is a prefix", spec: `annex ds/.git
			dir ds-2/d`, dir: "ds-2/d"},

		{name: "home has a longer name", spec: `annex hom/.git`, dir: "hom", datasets: "hom", objects: "hom/.git/annex/objects"},

		// Superdatasets.
		{name: "innermost", spec: nested, dir: "top/mid/deep/inner/d", datasets: "top", objects: nestedObjects, read: "top/mid/deep/inner/d/in top/in"},
		{name: "middle", spec: nested, dir: "top/mid/deep", datasets: "top", objects: nestedObjects, read: "top/mid/in top/mid/deep/inner/d/in"},
		{name: "outermost", spec: nested, dir: "top", datasets: "top", objects: nestedObjects, read: "top/mid/deep/inner/d/in"},
		{name: "unregistered", spec: `annex top/.git
			sub top other
			annex top/mid/.git`, dir: "top/mid", datasets: "top/mid", objects: "top/mid/.git/annex/objects"},
		{name: "registered by the one above the next", spec: `annex top/.git
			sub top mid/in
			annex top/mid/.git
			annex top/mid/in/.git`, dir: "top/mid/in", datasets: "top/mid/in", objects: "top/mid/in/.git/annex/objects"},
		{name: "prefix of a registered path", spec: `annex top/.git
			sub top mid/in
			annex top/mid/.git`, dir: "top/mid", datasets: "top/mid", objects: "top/mid/.git/annex/objects"},
		{name: "super is home", spec: `annex home/.git
			sub home ds
			annex home/ds/.git`, dir: "home/ds", datasets: "home/ds", objects: "home/ds/.git/annex/objects"},
		{name: "super holds home", spec: nested + `
			dir top/users/me`, dir: "top/mid", home: "top/users/me", datasets: "top/mid",
			objects: "top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects"},
		{name: "home through a symlink", spec: `annex gpfs/me/.git
			link me $/gpfs/me
			dir gpfs/me/.ssh
			dir gpfs/me/d`, dir: "gpfs/me/d", home: "me", objects: "gpfs/me/.git/annex/objects"},
		{name: "super is another user's", spec: nested, dir: "top/mid/deep/inner", foreign: "top/.git top", datasets: "top/mid",
			objects: "top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects", read: "top/mid/in"},
		{name: "super has a fifo for .gitmodules", spec: `annex top/.git
			fifo top/.gitmodules
			annex top/mid/.git`, dir: "top/mid", datasets: "top/mid", objects: "top/mid/.git/annex/objects"},
		{name: "super has a symlink for .gitmodules", spec: `annex top/.git
			sub other mid
			link top/.gitmodules ../other/.gitmodules
			annex top/mid/.git`, dir: "top/mid", datasets: "top/mid", objects: "top/mid/.git/annex/objects"},

		// The dataset that holds dir must not be bound.
		{name: "home is the dataset, dir below", spec: `annex home/.git
			dir home/.ssh
			link home/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "home/d", objects: "home/.git/annex/objects", read: "home/d/in"},
		{name: "home is the dataset, dir is home", spec: `annex home/.git
			sub home vim
			annex home/vim/.git`, dir: "home", objects: "home/.git/annex/objects home/vim/.git/annex/objects"},
		{name: "home is the dataset, subdatasets elsewhere unseen", spec: `annex home/.git
			sub home vim d/sub
			annex home/vim/.git
			annex home/d/sub/.git
			link home/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "home/d", objects: "home/.git/annex/objects home/d/sub/.git/annex/objects", read: "home/d/in"},
		{name: "home's git directory is a link", spec: `annex store/dots.git
			link home/.git $/store/dots.git
			link home/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "home/d", objects: "home/.git/annex/objects store/dots.git/annex/objects", read: "home/d/in"},
		{name: "another user's dataset", spec: `annex ds/.git
			dir ds/private
			sub ds d/sub
			annex ds/d/sub/.git
			link ds/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "ds/d", foreign: "ds",
			objects: "ds/.git/annex/objects ds/d/sub/.git/annex/objects", read: "ds/d/in"},
		{name: "another user's dataset, climb stops", spec: nested, dir: "top/mid", foreign: "top/mid",
			objects: "top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects", read: "top/mid/in"},
		{name: "another user's annex link to the caller's", spec: `git tmp/.git
			annex mine/.git
			dir tmp/d
			link tmp/.git/annex $/mine/.git/annex`, dir: "tmp/d", foreign: "tmp"},
		{name: "another user's annex link to a third's", spec: `git tmp/.git
			annex theirs/.git
			link tmp/.git/annex $/theirs/.git/annex
			link tmp/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "tmp/d", foreign: "tmp theirs",
			objects: "theirs/.git/annex/objects tmp/.git/annex/objects", read: "tmp/d/in"},
		{name: "another user's .gitmodules is too large", spec: `annex ds/.git
			dir ds/d
			file ds/.gitmodules ` + strings.Repeat("#", 4<<20), dir: "ds/d", foreign: "ds", objects: "ds/.git/annex/objects"},

		// Git directories elsewhere.
		{name: "submodule, file", spec: `annex top/.git
			sub top sub
			annex top/.git/modules/sub
			file top/sub/.git gitdir: ../.git/modules/sub`, dir: "top/sub", datasets: "top",
			objects: "top/.git/annex/objects top/.git/modules/sub/annex/objects"},
		{name: "submodule, link", spec: `annex top/.git
			sub top a/sub
			annex top/.git/modules/a/sub
			link top/a/sub/.git ../../.git/modules/a/sub
			link top/a/sub/in .git/annex/objects/vK/PZ/K/K`, dir: "top/a/sub", datasets: "top",
			objects: "top/.git/annex/objects top/.git/modules/a/sub/annex/objects", read: "top/a/sub/in"},
		{name: "submodule of a super that is not bound", spec: `annex home/.git
			sub home sub
			annex home/.git/modules/sub
			link home/sub/.git ../.git/modules/sub
			link home/sub/in .git/annex/objects/vK/PZ/K/K`, dir: "home/sub", datasets: "home/.git/modules/sub home/sub",
			objects: "home/.git/modules/sub/annex/objects", read: "home/sub/in"},
		{name: "submodules not installed at present", spec: `annex top/.git
			annex top/.git/modules/a/sub
			annex top/.git/modules/a/sub/modules/deep
			annex top/.git/worktrees/wt/modules/sub`, dir: "top", datasets: "top",
			objects: "top/.git/annex/objects top/.git/modules/a/sub/annex/objects top/.git/modules/a/sub/modules/deep/annex/objects top/.git/worktrees/wt/modules/sub/annex/objects"},
		{name: "worktree, link", spec: `annex ds/.git
			file ds/.git/worktrees/wt/HEAD ref: refs/heads/wt
			file ds/.git/worktrees/wt/commondir ../..
			file ds/.git/worktrees/wt/gitdir $/wt/.git
			link ds/.git/worktrees/wt/annex ../../annex
			link wt/.git ../ds/.git/worktrees/wt
			link wt/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "wt/d", datasets: "ds/.git wt", objects: "ds/.git/annex/objects", read: "wt/d/in"},
		{name: "worktree, file", spec: `annex ds/.git
			file ds/.git/worktrees/wt/HEAD ref: refs/heads/wt
			file ds/.git/worktrees/wt/commondir ../..
			file ds/.git/worktrees/wt/gitdir ../../../../wt/.git
			file wt/.git gitdir: $/ds/.git/worktrees/wt`, dir: "wt", datasets: "ds/.git wt", objects: "ds/.git/annex/objects"},
		{name: "worktree in its bare repository", spec: `annex ds
			file ds/worktrees/wt/HEAD ref: refs/heads/wt
			file ds/worktrees/wt/commondir ../..
			file ds/worktrees/wt/gitdir $/ds/wt/.git
			file ds/wt/.git gitdir: $/ds/worktrees/wt`, dir: "ds/wt", datasets: "ds", objects: "ds/annex/objects"},
		{name: "worktree of another user's repository", spec: `annex ds/.git
			file ds/.git/worktrees/wt/HEAD ref: refs/heads/wt
			file ds/.git/worktrees/wt/commondir ../..
			file ds/.git/worktrees/wt/gitdir $/wt/.git
			file wt/.git gitdir: $/ds/.git/worktrees/wt`, dir: "wt", foreign: "ds", datasets: "ro:ds/.git wt", objects: "ds/.git/annex/objects"},
		{name: "worktree whose repository is home", spec: `annex home
			file home/worktrees/wt/HEAD ref: refs/heads/wt
			file home/worktrees/wt/commondir ../..
			file home/worktrees/wt/gitdir $/wt/.git
			file wt/.git gitdir: $/home/worktrees/wt`, dir: "wt", datasets: "wt", objects: "home/annex/objects"},

		// Ephemeral clones and moved objects.
		{name: "ephemeral", spec: `annex ds/.git
			git eph/.git
			link eph/.git/annex $/ds/.git/annex
			link eph/d/in ../.git/annex/objects/vK/PZ/K/K`, dir: "eph/d", datasets: "eph", objects: "ds/.git/annex/objects", read: "eph/d/in"},
		{name: "ephemeral of ephemeral", spec: `annex ds/.git
			git one/.git
			link one/.git/annex $/ds/.git/annex
			git two/.git
			link two/.git/annex $/one/.git/annex
			link two/in .git/annex/objects/vK/PZ/K/K`, dir: "two", datasets: "two",
			objects: "ds/.git/annex/objects one/.git/annex/objects", read: "two/in"},
		{name: "ephemeral of ephemeral of ephemeral", spec: `annex ds/.git
			git one/.git
			link one/.git/annex $/ds/.git/annex
			git two/.git
			link two/.git/annex $/one/.git/annex
			git three/.git
			link three/.git/annex $/two/.git/annex
			link three/in .git/annex/objects/vK/PZ/K/K`, dir: "three", datasets: "three",
			objects: "ds/.git/annex/objects two/.git/annex/objects", read: "three/in"},
		{name: "annex link that turns back behind a link", spec: `annex gpfs/ds/.git
			dir gpfs/x
			link project $/gpfs/x
			git eph/.git
			link eph/.git/annex $/project/../ds/.git/annex`, dir: "eph", datasets: "eph", objects: "gpfs/ds/.git/annex/objects"},
		{name: "ephemeral through a linked file system", spec: `annex gpfs/ds/.git
			link project $/gpfs
			git eph/.git
			link eph/.git/annex $/project/ds/.git/annex
			link eph/in .git/annex/objects/vK/PZ/K/K`, dir: "eph", datasets: "eph",
			objects: "gpfs/ds/.git/annex/objects project/ds/.git/annex/objects", read: "eph/in"},
		{name: "ephemeral of a colleague's", spec: `annex ds/.git
			git eph/.git
			link eph/.git/annex $/ds/.git/annex
			link eph/in .git/annex/objects/vK/PZ/K/K`, dir: "eph", foreign: "ds", datasets: "eph", objects: "ds/.git/annex/objects", read: "eph/in"},
		{name: "objects moved to another disk", spec: `git ds/.git
			dir ds/.git/annex
			dir disk/store/vK/PZ
			dir disk/store/3a8/f20
			link ds/.git/annex/objects $/disk/store`, dir: "ds", datasets: "ds", objects: "disk/store"},
		{name: "objects link to no annex", spec: `git ds/.git
			dir ds/.git/annex
			dir home/.ssh/vK
			file home/.ssh/id_rsa secret
			link ds/.git/annex/objects $/home/.ssh`, dir: "ds", datasets: "ds"},
		{name: "annex link to no git directory", spec: `git ds/.git
			file data/objects/secret secret
			link ds/.git/annex $/data`, dir: "ds", datasets: "ds"},
		{name: "annex link to one in no git directory", spec: `git ds/.git
			file data/annex/objects/secret secret
			link ds/.git/annex $/data/annex`, dir: "ds", datasets: "ds"},
		{name: "annex link to an empty directory", spec: `git ds/.git
			dir data/objects
			link ds/.git/annex $/data`, dir: "ds", datasets: "ds"},
		{name: "annex loop", spec: `git ds/.git
			link ds/.git/annex annex`, dir: "ds", datasets: "ds"},
		{name: "objects is a file", spec: `git ds/.git
			file ds/.git/annex/objects x`, dir: "ds", datasets: "ds"},

		// .git that is none.
		{name: "empty .git", spec: `annex top/.git
			dir top/d/.git`, dir: "top/d", datasets: "top", objects: "top/.git/annex/objects"},
		{name: "gitdir is no git directory", spec: `file ds/.git gitdir: /etc`, dir: "ds"},
		{name: "gitdir is /", spec: `file ds/.git gitdir: /`, dir: "ds"},
		{name: "gitdir is a home", spec: `file home/.ssh/id_rsa secret
			file ds/.git gitdir: ../home`, dir: "ds"},
		{name: "gitdir is gone", spec: `file ds/.git gitdir: ../gone`, dir: "ds"},
		{name: "gitdir is empty", spec: `file ds/.git gitdir:`, dir: "ds"},
		{name: "gitdir is a file", spec: `file x y
			file ds/.git gitdir: ../x`, dir: "ds"},
		{name: "gitdir is itself", spec: `file ds/.git gitdir: .git`, dir: "ds"},
		{name: "gitdir is the caller's other repository", spec: `annex mine/.git
			file ds/.git gitdir: ../mine/.git`, dir: "ds", datasets: "ds ro:mine/.git", objects: "mine/.git/annex/objects"},
		{name: "gitdir is a worktree of another tree", spec: `git mine/.git
			file mine/.git/worktrees/wt/HEAD x
			file mine/.git/worktrees/wt/commondir ../..
			file mine/.git/worktrees/wt/gitdir $/wt/.git
			git wt/.git
			file ds/.git gitdir: ../mine/.git/worktrees/wt`, dir: "ds", datasets: "ds ro:mine/.git"},
		{name: "worktree without HEAD", spec: `annex mine/.git
			file mine/.git/worktrees/wt/commondir ../..
			file ds/.git gitdir: ../mine/.git/worktrees/wt`, dir: "ds"},
		{name: "gitdir is a submodule of another tree", spec: `annex mine/.git/modules/sub
			file ds/.git gitdir: ../mine/.git/modules/sub`, dir: "ds", datasets: "ds ro:mine/.git/modules/sub", objects: "mine/.git/modules/sub/annex/objects"},
		{name: "commondir leads elsewhere", spec: `git mine/.git
			file evil/HEAD x
			file evil/commondir ../mine/.git
			file ds/.git gitdir: ../evil`, dir: "ds"},
		{name: ".git is text", spec: `file ds/.git hello`, dir: "ds"},
		{name: ".git is huge", spec: `file ds/.git gitdir: ` + strings.Repeat("a/../", 1<<16), dir: "ds"},
		{name: ".git is a fifo", spec: `fifo ds/.git`, dir: "ds"},
		{name: ".git links to a fifo", spec: `fifo p
			link ds/.git ../p`, dir: "ds"},
		{name: ".git links to itself", spec: `link ds/.git .git`, dir: "ds"},
		{name: "commondir is a fifo", spec: `annex ds/.git
			fifo ds/.git/commondir`, dir: "ds", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "back pointer is a fifo", spec: `git g
			fifo g/gitdir
			file ds/.git gitdir: ../g`, dir: "ds", datasets: "ds ro:g"},

		// Subdatasets below.
		{name: "not installed", spec: `annex ds/.git
			sub ds a b
			dir ds/a`, dir: "ds", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "registered twice", spec: nested + `
			sub top mid mid/deep/inner mid/../mid ./mid`, dir: "top", datasets: "top", objects: nestedObjects},
		{name: "paths that leave", spec: `annex ds/.git
			sub ds ../other / . .git/x $/other
			annex other/.git
			annex ds/.git/x/.git`, dir: "ds", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "path through a link", spec: `annex ds/.git
			sub ds a/private b
			link ds/a $/home
			annex home/private/.git
			link ds/b $/home/private`, dir: "ds", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "subdataset of another user linked to the caller's annex", spec: `annex ds/.git
			sub ds theirs
			git ds/theirs/.git
			annex mine/.git
			link ds/theirs/.git/annex $/mine/.git/annex`, dir: "ds", foreign: "ds/theirs", datasets: "ds", objects: "ds/.git/annex/objects"},
		{name: "subdataset is a worktree from elsewhere", spec: `annex ds/.git
			sub ds wt
			annex far/.git
			file far/.git/worktrees/wt/HEAD x
			file far/.git/worktrees/wt/commondir ../..
			link far/.git/worktrees/wt/annex ../../annex
			link ds/wt/.git $/far/.git/worktrees/wt
			link ds/wt/in .git/annex/objects/vK/PZ/K/K`, dir: "ds", datasets: "ds",
			objects: "ds/.git/annex/objects far/.git/annex/objects far/.git/worktrees/wt/annex/objects", read: "ds/wt/in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base := plant(t, tc.spec)
			foreign := strings.Fields(tc.foreign)
			o := annex.Options{Home: filepath.Join(base, "home"), Owned: func(path string) bool {
				rel, err := filepath.Rel(base, path)
				must(t, err)
				for _, f := range foreign {
					// A trailing .git names the repository alone, not what lies in its tree.
					if rel == f || strings.HasPrefix(rel, f+"/") && !strings.Contains(tc.foreign, f+"/.git") {
						return false
					}
				}
				return true
			}}
			if tc.home != "" {
				o.Home = filepath.Join(base, tc.home)
			}
			dir := filepath.Join(base, tc.dir)
			view, err := annex.Find(dir, o)
			must(t, err)
			if diff := cmp.Diff(list(base, tc.datasets), view.Datasets); diff != "" {
				t.Errorf("datasets (-want +got):\n%s", diff)
			}
			want := list(base, tc.objects)
			for i := range want {
				want[i].ReadOnly = true
			}
			if diff := cmp.Diff(want, view.Objects); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			for _, path := range strings.Fields(tc.read) {
				readable(t, view, dir, filepath.Join(base, path))
			}
		})
	}
}

// list reads "PATH ro:PATH"; a "?" is a blank in a path.
func list(base, paths string) []annex.Bind {
	var binds []annex.Bind
	for _, path := range strings.Fields(paths) {
		path, ro := strings.CutPrefix(path, "ro:")
		binds = append(binds, annex.Bind{Path: filepath.Join(base, strings.ReplaceAll(path, "?", " ")), ReadOnly: ro})
	}
	return binds
}

// A directory of datasets is a common place to work in.
func TestFindChildren(t *testing.T) {
	base := plant(t, `
		annex lab/mine/.git
		annex lab/theirs/.git
		file lab/notes x`)
	lab := filepath.Join(base, "lab")
	view, err := annex.Find(lab, annex.Options{Home: "/nonexistent", Owned: func(path string) bool { return !strings.Contains(path, "theirs") }})
	must(t, err)
	want := annex.View{Objects: []annex.Bind{{Path: filepath.Join(lab, "mine/.git/annex/objects"), ReadOnly: true}}}
	if diff := cmp.Diff(want, view); diff != "" {
		t.Error(diff)
	}
	for i := range 300 {
		must(t, os.Mkdir(filepath.Join(lab, fmt.Sprint(i)), 0o755))
	}
	if view, err := annex.Find(lab, annex.Options{Home: "/nonexistent"}); err != nil || len(view.Objects) != 0 {
		t.Errorf("among 300 directories: %v, %v", view, err)
	}
}

func TestFindErrors(t *testing.T) {
	base := plant(t, `
		file file x
		annex big/.git
		file big/.gitmodules `+strings.Repeat("#", 4<<20)+`
		annex big/sub/.git
		annex many/.git
		annex fine/.git`)
	var many strings.Builder
	for i := range 1<<16 + 1 {
		fmt.Fprintf(&many, "[submodule.%d]\npath=%[1]d\n", i)
	}
	must(t, os.WriteFile(base+"/many/.gitmodules", []byte(many.String()), 0o644))
	for _, tc := range []struct{ dir, want string }{
		{"relative", "not an absolute"},
		{base + "/fine/", "not an absolute"},
		{base + "/fine/../fine", "not an absolute"},
		{base + "/none", "no such file"},
		{base + "/file", "not a directory"},
		{base + "/big", "big/.gitmodules: file is larger"},
		{base + "/many", "more than 65536"},
		{base + "/big/sub", "big/.gitmodules: file is larger"},
	} {
		view, err := annex.Find(tc.dir, annex.Options{Home: base + "/home"})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Find(%s): error %v, want %q", tc.dir, err, tc.want)
		}
		if diff := cmp.Diff(annex.View{}, view); diff != "" {
			t.Errorf("Find(%s): %s", tc.dir, diff)
		}
	}
}

// TestFindRegisteredByAll has each dataset register all below, not the next
// alone: as many ways down as there are subsets, and one visit each.
func TestFindRegisteredByAll(t *testing.T) {
	const depth = 18
	var spec strings.Builder
	for i := range depth {
		root := strings.Repeat("d/", i) + "d"
		fmt.Fprintf(&spec, "annex %s/.git\nsub %[1]s", root)
		for j := range depth - 1 - i {
			spec.WriteString(" d" + strings.Repeat("/d", j))
		}
		spec.WriteString("\n")
	}
	base := plant(t, spec.String())
	view, err := annex.Find(base+"/d/d", annex.Options{Home: base + "/home"})
	must(t, err)
	if len(view.Objects) != depth {
		t.Errorf("%d objects directories, want %d", len(view.Objects), depth)
	}
}

func TestFindUnreadable(t *testing.T) {
	// Root reads whatever the mode says; then the climb is right to go on.
	base := plant(t, nested)
	must(t, os.Chmod(base+"/top/.gitmodules", 0))
	must(t, os.Chmod(base+"/top/mid/deep/inner/.git", 0))
	t.Cleanup(func() { os.Chmod(base+"/top/mid/deep/inner/.git", 0o755) })
	want := annex.View{
		Datasets: list(base, "top/mid"),
		Objects:  []annex.Bind{{Path: base + "/top/mid/.git/annex/objects", ReadOnly: true}},
	}
	if os.Getuid() == 0 {
		want.Datasets, want.Objects = list(base, "top"), list(base, nestedObjects)
		for i := range want.Objects {
			want.Objects[i].ReadOnly = true
		}
	}
	view, err := annex.Find(base+"/top/mid", annex.Options{Home: base + "/home"})
	must(t, err)
	if diff := cmp.Diff(want, view); diff != "" {
		t.Error(diff)
	}
}

// TestOwner is about the default of Options.Owned.
func TestOwner(t *testing.T) {
	base := plant(t, nested)
	o := annex.Options{Home: base + "/home"}
	view, err := annex.Find(base+"/top/mid", o)
	must(t, err)
	if diff := cmp.Diff(list(base, "top"), view.Datasets); diff != "" {
		t.Errorf("own datasets (-want +got):\n%s", diff)
	}
	if os.Getuid() != 0 {
		return // nothing can be given away
	}
	must(t, os.Chown(base+"/top", 65534, 65534))
	view, err = annex.Find(base+"/top/mid", o)
	must(t, err)
	if diff := cmp.Diff(list(base, "top/mid"), view.Datasets); diff != "" {
		t.Errorf("super is another's (-want +got):\n%s", diff)
	}
}

func TestHomeFromEnvironment(t *testing.T) {
	base := plant(t, `annex home/.git
		dir home/d`)
	t.Setenv("HOME", base+"/home")
	view, err := annex.Find(base+"/home/d", annex.Options{})
	must(t, err)
	if len(view.Datasets) != 0 || len(view.Objects) != 1 {
		t.Errorf("got %+v, want the objects alone", view)
	}
}

func BenchmarkFind(b *testing.B) {
	base := plant(b, nested)
	o := annex.Options{Home: base + "/home"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := annex.Find(base+"/top/mid/deep/inner/d", o); err != nil {
			b.Fatal(err)
		}
	}
}
