package layout

import "fmt"

// Limits bound what an image may ask of the reader. A zero field means its default. The sizes are those that registries
// and other runners allow; real images stay far below every one.
type Limits struct {
	IndexSize    int64 // bytes of index.json and of a nested index; default 4 MiB
	ManifestSize int64 // bytes of a manifest; default 4 MiB
	ConfigSize   int64 // bytes of a config; default 4 MiB
	IndexDepth   int64 // indexes within indexes, index.json not counted; default 8
	Indexes      int64 // nested indexes read in one search; default 256
	IndexEntries int64 // entries seen in one search, over all indexes; default 20 000
}

// The defaults of Limits.
const (
	maxIndexSize    = 4 << 20
	maxManifestSize = 4 << 20
	maxConfigSize   = 4 << 20
	maxIndexDepth   = 8
	maxIndexes      = 256
	maxIndexEntries = 20000
)

// What no option changes.
const (
	maxLinks       = 40       // symlinks followed by hand, as the kernel's limit
	maxPointerSize = 32 << 10 // bytes; git-annex takes no larger file for a pointer
	maxListed      = 10       // choices named in one error

	maxMembers    = 20000     // members of an archive
	maxMemberName = 1024      // bytes of the name or link target of a member
	maxKept       = 1 << 20   // bytes of a member of a compressed archive that is kept in memory
	maxKeptInAll  = 32 << 20  // bytes of all of these
	maxArchive    = 64 << 30  // bytes a compressed archive may unpack to whatever its size, and beyond that
	maxRatio      = 100       // bytes per byte of it
	maxSaved      = 256       // images of a docker save whose configs are read in one search
	maxWindow     = 128 << 20 // bytes of a zstd window, what zstd --ultra -22 asks for
)

// Fill returns l with defaults in the place of zeros.
func (l Limits) Fill() Limits {
	for _, f := range []struct {
		value *int64
		def   int64
	}{
		{&l.IndexSize, maxIndexSize}, {&l.ManifestSize, maxManifestSize}, {&l.ConfigSize, maxConfigSize},
		{&l.IndexDepth, maxIndexDepth}, {&l.Indexes, maxIndexes}, {&l.IndexEntries, maxIndexEntries},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	return l
}

// document is what a document of any kind that was saved beside an image may have, in bytes.
func (l Limits) document() int64 { return max(l.IndexSize, l.ManifestSize) }

// beyond is the error of what goes beyond the limit called name, as the command line calls it.
func beyond(name string, format string, args ...any) error {
	return &hinted{fmt.Errorf(format, args...), fmt.Sprintf("if the image is to be trusted: --limit %s=N", name)}
}
