// Package layout finds an image: it turns what a user types (a directory, its
// index.json, with a tag or a digest) into a v1.Image.
//
// # What it owns
//
// The way from a reference to one manifest and one config: reading the index,
// following nested indexes, picking by tag, digest and platform, and naming
// Docker's media types by their OCI names. Where the bytes lie is a [medium],
// one file each; all that is read from a medium is checked against the size
// and the digest of its descriptor while it is read, in one place, so a new
// medium opens blobs and leaves trust to [newImage] and [verifier].
//
// # What it never does
//
// It never writes, locks, creates or touches anything beside the image, never
// opens a layer before a layer is asked for, never decompresses one to learn
// its diff_id (the config says it), and never waits on something that is not a
// file: blobs are opened without blocking and refused unless they are regular.
//
// # What is on disk
//
//	DIR/oci-layout            {"imageLayoutVersion": "1.0.0"}; may be absent
//	DIR/index.json            the index: what there is, by tag and platform
//	DIR/blobs/sha256/HEX      indexes, manifests, configs, layers
//
// Each of these, and DIR, may be a symlink, to any depth. In a git-annex
// dataset most are: a locked file is a symlink into .git/annex/objects, which
// dangles while the content is elsewhere; an unlocked one without content is a
// small pointer file in the blob's place. Both are told apart from damage and
// reported as a [MissingError]. index.json alone may also be a symlink to the
// index.json of another layout; then the blobs are looked for beside that one.
//
// A start from a warm cache opens oci-layout, index.json, one manifest and one
// config, and lists no directory.
package layout
