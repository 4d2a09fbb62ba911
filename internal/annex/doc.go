// Package annex knows where git-annex and DataLad keep things.
//
// An annexed file in a work tree is a symlink into the objects of its
// repository, `../../.git/annex/objects/vK/PZ/KEY/KEY`, and a command that
// sees its working directory alone finds such links dangling. [Find] names
// the directories that make them resolve at their own paths: the datasets
// that hold the working directory, git directories that lie elsewhere, and,
// read-only, the annex objects of all that is visible. [ObjectsBelow] does so
// for one path that the user names.
//
// What lies on disk, and what follows from it:
//
//	ds/.git/                                 a dataset as DataLad makes it, nested or not
//	ds/sub/.git -> ../.git/modules/sub       a submodule once git-annex was in it (a file "gitdir: …" before)
//	wt/.git -> /ds/.git/worktrees/wt         a worktree, likewise
//	  /ds/.git/worktrees/wt/commondir        "../..": the git directory that they share
//	  /ds/.git/worktrees/wt/annex -> ../../annex
//	eph/.git/annex -> /ds/.git/annex         an ephemeral clone: another dataset's annex
//	ds/.gitmodules                           registers the datasets below
//
// Whom it trusts. The working directory is the user's choice, and so is
// everything that belongs to the user; a repository may nevertheless come from
// someone else. A dataset is bound only if it belongs to the caller and is
// neither the home directory, nor above it, nor the root directory: of any
// other dataset that holds the working directory (a colleague's, or dotfiles
// kept in git) only the annex objects are shown. A git directory elsewhere is
// shown only if it is one, and writable only if it belongs to the caller and
// leads back to the work tree. Objects are shown only if they are the annex of
// a git directory or hold nothing but an annex's hash directories; a
// repository of someone else never makes the caller's own objects visible.
// Submodule paths through symlinks are ignored, as git ignores them.
//
// [Find] and [ObjectsBelow] read files alone: no git and no git-annex is run,
// nothing is written, and no work tree is walked. Repositories below that no
// .gitmodules registers are therefore not found.
//
// # What changes a dataset
//
// A [Dataset] is asked and changed through the programs git and git-annex.
// A [Change] tracks an image and registers it with datalad-container in one commit,
// or leaves what it found. What becomes of a layer:
//
//	DIR/.gitattributes          blobs are annexed by SHA256: the key is the digest of the manifest
//	DIR/blobs/sha256/HEX        annexed, its content here or not; in git where it is small
//	git-annex branch            where else it is: URLs for the special remote (package special), and
//	                            for the web where a registry wants no token
//	.datalad/config             datalad.containers.NAME.image and .cmdexec
//
// [Get] asks git-annex for one key. That is all a run ever asks of it.
package annex
