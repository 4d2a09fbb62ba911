// Package registry reads images from OCI and Docker registries, and takes
// nothing a registry says on trust.
//
// # What it owns
//
// The way over the network: finding the registry, its mirrors and the scheme;
// credentials and tokens; redirects; trying again; and the limits in time and
// memory that hold whatever the other side does.
//
//	request   one question: token, redirects by hand, one answer
//	budget    a few tries a question, with a growing pause or the one that the registry asks for
//	blob      a reader that goes on where it was cut off, with Range
//	Download  a blob into a file, verified, going on where an earlier try ended
//
// # What it promises
//
// A credential goes to the registry that it is for, and to the token server
// which that registry names, over https; never along a redirect to another
// host or port. Plain http is spoken to loopback, or with [Options.Insecure].
// Nothing is stored. No answer is read beyond the size that was asked for
// (blobs), [MaxManifest], or 1 MiB (tokens and errors). An answer that comes to
// a halt is given up after [Options.Stall]. An answer cut off, a 408, a 429 and a
// 5xx are tried again, [Options.Tries] times in all without progress.
//
// A manifest is checked against the digest that it was asked for by. The bytes
// of a blob are not: whoever has all of them checks them, as [Client.Download]
// does.
//
// # What it never does
//
// It follows no URL that a manifest holds (foreign layers), decompresses
// nothing, keeps no cache, and prints nothing.
package registry
