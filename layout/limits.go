package layout

// What an image may ask of the reader. The sizes are those that registries
// and other runners allow; real images stay far below every one.
const (
	maxIndexSize    = 4 << 20  // bytes of index.json and of a nested index
	maxManifestSize = 4 << 20  // bytes of a manifest
	maxConfigSize   = 16 << 20 // bytes of a config

	maxIndexDepth   = 8     // indexes within indexes, index.json not counted
	maxIndexes      = 256   // nested indexes read in one search
	maxIndexEntries = 20000 // entries seen in one search, over all indexes

	maxLinks       = 40       // symlinks followed by hand, as the kernel's limit
	maxPointerSize = 32 << 10 // bytes; git-annex takes no larger file for a pointer
	maxListed      = 10       // choices named in one error
)
