package annex_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/internal/annex"
)

func TestObjectsBelow(t *testing.T) {
	base := plant(t, nested+`
		link elsewhere/link $/top/mid/in
		link elsewhere/mid $/top/mid
		annex bare
		dir plain/d
		annex lab/one/.git
		annex lab/two/.git
		annex lab/below/three/.git
		file lab/fifo not a directory
		git eph/.git
		link eph/.git/annex $/top/.git/annex
		link dangling $/top/gone
		annex top/.git/modules/old
		annex big/.git
		file big/.gitmodules `+strings.Repeat("#", 4<<20))
	for _, tc := range []struct{ path, want, err string }{
		{path: "top", want: "top/.git/annex/objects top/.git/modules/old/annex/objects top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects"},
		{path: "top/.git", want: "top/.git/annex/objects top/.git/modules/old/annex/objects"},
		{path: "top/in", want: "top/.git/annex/objects"},
		{path: "top/mid", want: "top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects"},
		{path: "top/mid/deep", want: "top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects"},
		{path: "top/mid/deep/inner/d", want: "top/mid/deep/inner/.git/annex/objects"},
		{path: "top/mid/.git/annex/objects/vK", want: "top/mid/.git/annex/objects"},
		{path: "elsewhere/link", want: "top/mid/.git/annex/objects"},
		{path: "elsewhere/mid", want: "top/mid/.git/annex/objects top/mid/deep/inner/.git/annex/objects"},
		{path: "bare", want: "bare/annex/objects"},
		{path: "bare/annex", want: "bare/annex/objects"},
		{path: "eph", want: "top/.git/annex/objects"},
		{path: "plain/d"},
		{path: "lab", want: "lab/one/.git/annex/objects lab/two/.git/annex/objects"},
		{path: "lab/one/../fifo"},
		{path: "gone", err: "no such file"},
		{path: "dangling", err: "no such file"},
		{path: "big", err: "file is larger"},
	} {
		got, err := annex.ObjectsBelow(filepath.Join(base, tc.path))
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want %q", tc.path, err, tc.err)
			}
			continue
		}
		must(t, err)
		var want []string
		for _, b := range list(base, tc.want) {
			want = append(want, b.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.path, diff)
		}
	}
}
