package layout

import (
	"bytes"
	"runtime"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/internal/lazy"
)

// hostPlatform is what this machine runs. It asks for the plainest amd64 and
// arm64, not for what this CPU could do, so that every node of a cluster picks
// the same image from one index.
func hostPlatform() v1.Platform {
	var u unix.Utsname
	machine := ""
	if unix.Uname(&u) == nil {
		machine = string(u.Machine[:bytes.IndexByte(u.Machine[:], 0)])
	}
	return platformOf(runtime.GOARCH, machine)
}

// platformOf maps Go's name of the architecture and the kernel's name of the
// machine, which alone tells Debian's armhf (armv7l) from armel (armv6l).
func platformOf(goarch, machine string) v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: goarch}
	switch goarch {
	case "arm64":
		p.Variant = "v8"
	case "arm":
		p.Variant = "v7"
		for _, v := range []string{"5", "6"} {
			if strings.HasPrefix(machine, "armv"+v) {
				p.Variant = "v" + v
			}
		}
	}
	return p
}

// normalize gives a platform under the names that Go uses, for the sake of
// images that name the kernel's or Debian's.
func normalize(p v1.Platform) v1.Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	return p
}

// complete fills what p leaves out from base; the variant only where the
// architecture is the same.
func complete(p, base v1.Platform) v1.Platform {
	p = normalize(p)
	if p.OS == "" {
		p.OS = base.OS
	}
	if p.Architecture == "" {
		p.Architecture = base.Architecture
	}
	if p.Variant == "" && p.Architecture == base.Architecture {
		p.Variant = base.Variant
	}
	return p
}

var variantSyntax = lazy.Regexp(`^v([0-9]{1,3})(?:\.([0-9]{1,3}))?$`)

// level orders the variants of an architecture; what is left out means the
// baseline that Docker and containerd mean by it.
func level(arch, variant string) (int, bool) {
	if variant == "" {
		variant = map[string]string{"arm": "v7", "arm64": "v8"}[arch]
		if variant == "" {
			variant = "v1"
		}
	}
	m := variantSyntax().FindStringSubmatch(variant)
	if m == nil {
		return 0, false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major*1000 + minor, true
}

// distance says whether an image for have runs where want is asked for, and
// how far its variant lies below; 0 is the best. A CPU runs what was built for
// its lower variants, never for a higher one.
func distance(want, have v1.Platform) (int, bool) {
	want, have = normalize(want), normalize(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return 0, false
	}
	if want.Variant == have.Variant {
		return 0, true
	}
	w, wantOK := level(want.Architecture, want.Variant)
	h, haveOK := level(have.Architecture, have.Variant)
	return w - h, wantOK && haveOK && h <= w
}

// known says whether an index entry tells its platform.
func known(p *v1.Platform) bool {
	return p != nil && (p.OS != "" || p.Architecture != "")
}
