package unpack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unsynced is the file in a directory of the store that says: this was put here without waiting for the disk, while
// the machine ran under the boot id in the file. As long as it does, the kernel shows what was written. After another
// boot, perhaps after a crash, parts may be missing, and the directory counts as broken.
//
// To wait for the disk can take longer than to unpack. A later run removes the file, when the kernel has written
// everything out by itself.
const unsynced = "unsynced"

// settled is the age at which the kernel has long written a file out (vm.dirty_expire_centisecs: 30 s).
const settled = 10 * time.Minute

// localFilesystems are those that only this machine writes: its boot id says what was lost.
var localFilesystems = map[int64]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true,
	unix.F2FS_SUPER_MAGIC: true, unix.TMPFS_MAGIC: true, 0x2fc12fc1: true, // ZFS
}

// bootID returns what is new with every boot, "" when the kernel does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// defers returns the boot id to write beside what is published without waiting for the disk, "" to wait.
func (s *Store) defers() string {
	var fs unix.Statfs_t
	if s.opt.Sync || unix.Statfs(s.dir, &fs) != nil || !localFilesystems[int64(fs.Type)] {
		return ""
	}
	return s.boot()
}

// isLost reports whether a directory of the store may have lost something in a crash.
func (s *Store) isLost(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, unsynced))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	return err != nil || strings.TrimSpace(string(b)) != s.boot()
}

// settle removes the files of directories that have come to the disk by now; with Options.Sync it waits for that.
// It is no failure when the store cannot be written.
func (s *Store) settle(root *Root) {
	var files []string
	for _, fs := range append([]string{root.Dir}, root.Layers...) {
		file := filepath.Join(filepath.Dir(fs), unsynced)
		fi, err := os.Lstat(file)
		if err == nil && (s.opt.Sync || time.Since(fi.ModTime()) > settled) {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return
	}
	dir, err := os.Open(s.dir)
	if err != nil {
		return
	}
	defer dir.Close()
	if unix.Syncfs(int(dir.Fd())) != nil {
		return
	}
	for _, file := range files {
		os.Remove(file)
	}
}
