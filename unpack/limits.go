package unpack

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Limits bound what one layer may ask for. A zero field means its default.
// The largest layers seen in the wild have 1.5 million entries and inflate
// fifty-fold.
type Limits struct {
	Reserve int64 // bytes of the file system left free; default 16 MiB
	Slack   int64 // bytes a layer may unpack to whatever its size, holes included; default 64 GiB
	Ratio   int64 // bytes it may unpack to beyond Slack per byte of its blob; default 100
	Entries int64 // entries of a layer; default 5 million
	Path    int   // bytes of a name or link target; default 4095, what the kernel takes
	Depth   int   // directories below each other; default 256
	Memory  int64 // bytes of memory for the directories of the layers being unpacked; default 32 MiB, some 200 000 directories
}

func (l Limits) fill() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Reserve, 16<<20)
	set(&l.Slack, 64<<30)
	set(&l.Ratio, 100)
	set(&l.Entries, 5_000_000)
	set(&l.Memory, 32<<20)
	if l.Path == 0 {
		l.Path = 4095
	}
	if l.Depth == 0 {
		l.Depth = 256
	}
	return l
}

// unpacked returns the bytes that a blob of size bytes may unpack to.
func (l Limits) unpacked(size int64) int64 {
	if size > (1<<62)/l.Ratio {
		return 1 << 62
	}
	return l.Slack + size*l.Ratio
}

// budget is shared by the layers that are unpacked side by side.
type budget struct {
	dir     string // the store
	limits  Limits
	written atomic.Int64 // bytes on disk, holes not counted
	memory  atomic.Int64 // bytes held in trees of directories
}

// write accounts for n bytes before they are written. The free space is looked
// up every 64 MiB: others write to the same file system meanwhile.
func (b *budget) write(n int64) error {
	const step = 64 << 20
	now := b.written.Add(n)
	if now/step == (now-n)/step && now != n {
		return nil
	}
	if free := freeBytes(b.dir); free >= 0 && free < b.limits.Reserve+n {
		return unix.ENOSPC
	}
	return nil
}

// remember accounts for n bytes kept in memory until the layer is done.
func (b *budget) remember(n int) error {
	if b.memory.Add(int64(n)) > b.limits.Memory {
		return &LimitError{"bytes of memory for directories, whiteouts and links", b.limits.Memory}
	}
	return nil
}

// freeBytes returns the bytes free to the caller below dir, -1 when unknown.
func freeBytes(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 {
		return -1
	}
	return int64(st.Bavail) * st.Bsize
}
