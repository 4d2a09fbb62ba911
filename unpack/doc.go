// Package unpack turns an image into a root on local disk, at most once.
//
// It owns the store and the extraction. It never fetches, never mounts, never
// starts a process and never prints: it takes a [v1.Image] and hands back paths.
//
// # The store
//
//	layers/<diff_id>/fs/          one layer in overlayfs form: a whiteout is a 0:0 character
//	                              device, an opaque directory carries user.overlay.opaque
//	layers/<diff_id>/meta.json    what the layer is: counts, and the directories it implies
//	layers/<diff_id>/unsynced     as long as the disk may not have it yet: the boot id
//	roots/<chain_id>.json         the marker of one image, written last; locked while a run uses the image
//	roots/<chain_id>/fs/          now and then: directories alone, see "Implied directories"
//	merged/<chain_id>/fs/         one image in one directory, where layers cannot be stacked
//	tmp/<host>.<pid>.<random>/    one unpack at work, its directory locked with flock
//	locks/<id>                    flock: saves doing work twice, and keeps from being trimmed what an unpack counts on
//	<id>.aside.<random>           was found damaged while a run used it
//
// Package layout keeps documents/, refs/ and places/ beside these: small files by which
// images of registries are found again.
//
// Every name is a sha256 in hex, and no root is ever taken from a file of the
// store: a marker says which form the image has, the image itself says which
// layers. A warm start reads one marker and stats the layers; it waits for nothing,
// creates nothing and opens no layer. A layer whose top directory has another time
// than when it was unpacked is unpacked anew.
//
// # Trimming
//
// Whoever has a root holds a shared lock on its marker, and whoever trims removes a
// marker only with the exclusive one, then the layers that no marker needs. Between
// a layer that is found in place and the marker that needs it lies the rest of an
// unpack: it holds shared locks on the layers, without which none is removed. An
// image that is removed between two steps is unpacked again. Where flock does not
// work nothing is trimmed. The last use is the time of the marker, written at most
// once a day. [Store.Verify] compares what lies here with the blobs of the image.
//
// # Unpacking a layer
//
// A layer is inflated by what its first bytes say, hashed and parsed side by
// side, and written by umoci's TarExtractor entry by entry, alone in a private
// directory below tmp/. What umoci is never shown are whiteouts: the names of
// whiteouts and the directories of the layer are kept in a tree and settled
// when the last entry is in. The order of entries therefore does not matter, as
// the specification has it, and umoci's ways to leave the root through a
// whiteout or to lose a mode (0.6.0) are out of reach. Only when the blob has
// been read to its end, and its digest and the diff_id have been verified, does a
// rename give the directory its name. What a killed process leaves lies in tmp/ and is
// removed by the next run that unpacks. What a crash of the machine may have torn is
// known by its file "unsynced" (durable.go), and unpacked anew.
//
// Nothing is owned by anyone but the caller, also when the caller is root. Of
// extended attributes only user.* are kept, user.overlay.* in the escaped form
// in which overlayfs shows but does not obey them. A device becomes an empty
// file of mode 0. Runs of zeros become holes.
//
// # Implied directories
//
// A layer may hold a/b/file without an entry for a or a/b. Such a directory has
// mode 0755 and time 0 in the layer, which on overlay would hide those of a
// lower layer. Layers are shared by images, so it is mended per image: one more
// layer on top, roots/<chain_id>/fs, holds just these directories as the lower
// layer has them. A directory implied where a lower layer has a symlink cannot
// be mended this way. Nor does overlayfs hide the whiteouts of a directory that one
// layer alone has: such a directory is put there too, and so merged.
//
// # Merged
//
// An image becomes one directory where a layer has a hard link into a lower
// one or implies a directory through a lower symlink, where the file system
// lacks user.* xattrs or refuses a 0:0 device, or where [Options].Overlay says
// no. Each layer is unpacked as above and then moved over the ones below.
//
// # Trust
//
// A store is used only if it and every directory on the way to it belong to the
// caller, root or one of [Options].Owners, and no one else can write there. Who
// may enter is up to the mode of the store: one made here is 0700. In a store
// that others can reach (a site cache), files and directories of images lose
// their write bits for group and others, as a world-writable /tmp of an image
// would otherwise be a door into everyone's root.
package unpack
