// Package image makes the images that the tests and the demo run: OCI layouts
// whose layers are controlled entry by entry.
//
// A Layer is a tar stream. Hand-made layers are lists of entries, written as
// one writes a file tree:
//
//	Entries(
//		Dir("opt/app/", 0o555),
//		File("opt/app/run", 0o4755, "#!/bin/sh\n"),
//		Hardlink("opt/app/again", "opt/app/run", 0o4755),
//		Whiteout("etc/motd"),
//		Opaque("usr/share/locale"),
//	)
//
// Layers of real software are differences between the tarballs of two
// mmdebstrap runs, so that no root, daemon or network mount is needed to make
// them, in the gzip framing of buildah and skopeo (pgzip) or in zstd.
//
// What is made lies in the cache: one directory an image, named by a hash of
// this package, so that a changed recipe is a new image; written beside and
// renamed. Nothing in it is ever changed.
package image
