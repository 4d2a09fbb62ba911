package image

import (
	"context"
	"fmt"
	"strings"
)

// oddities are layers upon a Debian that hold what unpackers get wrong.
func oddities() []Layer {
	app := []Entry{
		Dir("opt/", 0o755), Dir("opt/app/", 0o755), Dir("opt/app/ro/", 0o555), File("opt/app/ro/file", 0o444, "in a 0555 directory\n"),
		Dir("opt/app/private/", 0o700), File("opt/app/private/none", 0, "mode 0000\n"), Dir("opt/app/none/", 0),
		Dir("opt/app/sticky/", 0o1777), Dir("opt/app/setgid/", 0o2755),
		File("opt/app/setuid", 0o4755, "#!/bin/sh\n").Owner(0, 0), File("opt/app/setboth", 0o6711, "#!/bin/sh\n").Owner(33, 8),
		Hardlink("opt/app/setuid-too", "opt/app/setuid", 0o4755), Hardlink("opt/app/ro/setuid-three", "opt/app/setuid", 0o4755),
		Fifo("opt/app/fifo", 0o640), Device("opt/app/null", 0o666, 1, 3), Device("opt/app/zero", 0o600, 1, 5),
		Symlink("opt/app/up", "../../../../../../../etc/passwd"), Symlink("opt/app/dangling", "/nowhere/at all"),
		Symlink("opt/app/loop", "loop"), Symlink("opt/app/dirlink", "/opt/app/many"),
		File("opt/app/xattr", 0o644, "with attributes\n").Xattr("user.origin", "tests").Xattr("user.bytes", "\x01\x02\xff"),
		Dir("opt/app/xattrs/", 0o755).Xattr("user.dir", "yes"),
		File("opt/app/space and\nnewline", 0o644, "odd name\n"), File("opt/app/näme-\xff", 0o644, "not UTF-8\n"),
		File("opt/app/empty", 0o644, ""),
		Dir("opt/app/gone/", 0o755), File("opt/app/gone/file", 0o644, "x\n"), Dir("opt/app/opaque/", 0o755),
		File("opt/app/opaque/old", 0o644, "old\n"), Dir("opt/app/opaque/sub/", 0o755), File("opt/app/opaque/sub/old", 0o644, "old\n"),
		Dir("opt/app/dir-to-file/", 0o755), File("opt/app/dir-to-file/x", 0o644, "x\n"),
		Dir("opt/app/dir-to-link/", 0o755), File("opt/app/dir-to-link/x", 0o644, "x\n"),
		File("opt/app/file-to-dir", 0o644, "x\n"), File("opt/app/file-to-link", 0o644, "x\n"), Symlink("opt/app/link-to-dir", "many"),
		Dir("opt/app/many/", 0o755),
	}
	for i := range 60 {
		app = append(app, Dir("opt/app/"+strings.Repeat("long/", i+1), 0o755))
	}
	for i := range 3000 {
		app = append(app, File(fmt.Sprintf("opt/app/many/%04d", i), 0o644, fmt.Sprintln("file", i)))
	}
	app = append(app, File("opt/app/"+strings.Repeat("long/", 60)+strings.Repeat("n", 255), 0o644, "a long way down\n"))
	return []Layer{
		Entries(app...),
		Entries(
			Dir("opt/", 0o755), Dir("opt/app/", 0o755), Dir("usr/", 0o755), Dir("usr/share/", 0o755), Dir("etc/", 0o755),
			Whiteout("opt/app/gone"), Whiteout("opt/app/empty"), Whiteout("usr/share/doc"), Whiteout("etc/debian_version"),
			Dir("opt/app/opaque/", 0o750), Opaque("opt/app/opaque"), File("opt/app/opaque/new", 0o644, "new\n"),
			File("opt/app/dir-to-file", 0o600, "a file now\n"), Symlink("opt/app/dir-to-link", "many"),
			Dir("opt/app/file-to-dir/", 0o755), File("opt/app/file-to-dir/x", 0o644, "x\n"),
			Symlink("opt/app/file-to-link", "xattr"), Dir("opt/app/link-to-dir/", 0o755), File("opt/app/link-to-dir/x", 0o644, "x\n"),
			Dir("opt/app/ro/", 0o555), File("opt/app/ro/new", 0o444, "new\n"),
		),
		Entries(
			Dir("opt/", 0o755), Dir("opt/app/", 0o755), Dir("usr/", 0o755), Dir("usr/share/", 0o755),
			Dir("opt/app/many/", 0o755), Opaque("opt/app/many"), File("opt/app/many/one", 0o644, "one\n"),
			Dir("opt/app/gone/", 0o700), File("opt/app/gone/back", 0o644, "back\n"),
			Dir("opt/app/opaque/", 0o750), Whiteout("opt/app/opaque/new"),
			Dir("usr/share/doc/", 0o755), File("usr/share/doc/README", 0o644, "all gone\n"),
			File("opt/app/setuid", 0o755, "replaced; its other names keep the old content\n"),
		),
		Entries(
			Dir("srv/", 0o755), Dir("opt/", 0o755), Dir("opt/app/", 0o755), Dir("srv/data/", 0o755), File("srv/data/a", 0o644, "linked\n"), Hardlink("srv/data/b", "srv/data/a", 0o644), Hardlink("srv/c", "srv/data/a", 0o644),
			Dir("opt/app/ro/", 0o555), Whiteout("opt/app/ro/file"), Whiteout("opt/app/fifo"),
		),
	}
}

// odd holds what no builder writes but the image specification allows, where
// other unpackers go their own ways: layers without entries for the directories
// that they reach into, and a name hidden and made again in one layer.
func odd(_ context.Context, dir, scratch string) error {
	return Write(dir, scratch, config, Gzip,
		shell(),
		Entries(
			Dir("implied/", 0o711), Dir("implied/deep/", 0o750), File("implied/deep/below", 0o644, "below\n"),
			Dir("ro/", 0o555), File("ro/file", 0o444, "below\n"),
			Dir("many/", 0o755), File("many/old", 0o644, "old\n"), File("below", 0o640, "below\n"),
		),
		Entries(
			File("implied/deep/new", 0o644, "new\n"), File("ro/new", 0o444, "new\n"), File("fresh/made/file", 0o644, "new\n"),
			Whiteout("many"), Dir("many/", 0o700), File("many/new", 0o644, "new\n"),
		),
	)
}

// crosslink has a hard link to a file of a lower layer, which layers kept apart
// cannot hold.
func crosslink(_ context.Context, dir, scratch string) error {
	return Write(dir, scratch, config, Gzip, shell(),
		Entries(Dir("a/", 0o755), File("a/file", 0o640, "shared\n")), Entries(Hardlink("a/link", "a/file", 0o640)))
}
