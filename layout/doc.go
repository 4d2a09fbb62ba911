// Package layout finds an image: it turns what a user types (a directory, its
// index.json, with a tag or a digest, a reference to a registry) into a v1.Image,
// and saves one as a layout.
//
// # What it owns
//
// The way from a reference to one manifest and one config: reading the index,
// following nested indexes, picking by tag, name, digest and platform, and naming
// Docker's media types by their OCI names. An image lies in a [place], a directory or
// an archive, in one of three forms, a [medium] each; all that is read from
// a medium is checked against the size and the digest of its descriptor while it is
// read, in one place, so a new medium opens blobs and leaves trust to
// [newImage] and [verifier]. The medium of a registry is a repository there; package registry
// below this one asks it. A caller who can get what is missing is asked for it, blob by blob
// (see [Supply]).
//
// # What it never does
//
// Reading an image, it never writes, locks, creates or touches anything beside the image, never
// opens a layer before a layer is asked for, never decompresses one to learn
// its diff_id (the config says it), and never waits on something that is not a
// file: blobs are opened without blocking and refused unless they are regular.
//
// # What is on disk
//
//	oci-layout                {"imageLayoutVersion": "1.0.0"}; may be absent
//	index.json                OCI layout: what there is, by tag and platform
//	blobs/sha256/HEX          indexes, manifests, configs, layers
//
//	manifest.json             docker save: a list of configs, names and layers
//	HEX.json                  a config, whose digest is its name
//	HEX/layer.tar             a layer, or a symlink to another one's
//	HEX.tar                   a layer as skopeo and podman name it, by its diff_id
//
//	manifest.json             skopeo dir: one manifest, or an index
//	HEX, HEX.manifest.json    its blobs, and the manifests of an index
//
// Docker 25 and later save an OCI layout with a manifest.json; the index is
// preferred. A docker save has no manifest with digests of its blobs: one is made
// up (see [saved]), and the config and its diff_ids are what everything is
// verified by.
//
// In a directory each file, and the directory, may be a symlink, to any depth. In a git-annex
// dataset most are: a locked file is a symlink into .git/annex/objects, which
// dangles while the content is elsewhere; an unlocked one without content is a
// small pointer file in the blob's place. Both are told apart from damage and
// reported as a [MissingError]. index.json alone may also be a symlink to the
// index.json of another layout; then the blobs are looked for beside that one.
//
// In an archive links lead to other members and nowhere else. It is never
// extracted. A plain one is read in place, a compressed one decompressed into a
// temporary file without a name when a layer is read.
//
// A start from a warm cache opens oci-layout, index.json, one manifest and one
// config (or manifest.json and one config), and lists no directory. Of a plain archive it
// reads the headers too; a compressed one is decompressed as a whole, each time.
package layout
