// Package special is a special remote of git-annex from which the layers of images come back: it speaks the
// external special remote protocol and gets the content of keys from OCI registries.
//
// It owns the protocol (remote.go, requests.go), the way from a key to registries (locate.go), the spelling of a
// place in a registry as a URL (location.go) and the settings of the remote (settings.go). It knows nothing of HTTP: what it
// needs of a registry is the interface [Blobs]. It never stores, never removes, and keeps nothing between two requests.
//
// # Where a key comes from
//
// The URLs that are recorded for the key tell, as far as they name a blob (see [ParseURL]). A key of the backends
// SHA256 and SHA256E is itself the digest of a blob, and is looked for in the repositories of the setting repo=
// too. Each place is preceded by the mirrors that serve its registry (mirror=). All name the blob by digest, so it does not matter
// which one answers: what a registry sends is hashed on its way, and refused when it is something else.
//
// A layer that `docker save` has written is the inflated blob of a registry. Its record says so by the diff_id; then that is
// what must come out.
//
// # What the answers mean
//
// git-annex drops a local copy when the remote says that it has another, so CHECKPRESENT says SUCCESS only when a
// registry has just confirmed the blob, FAILURE only when all have answered that they do not have it, and UNKNOWN
// whenever one could not be asked: no network, no permission, an error at the registry.
//
// # Side by side
//
// ASYNC is not offered: git-annex then starts one process a job, each answers one request at a time, and one that fails or is
// killed takes no other with it. What they share is the file system: git-annex locks the key that it retrieves.
package special
