package unpack

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Limits bound what an image may ask for when it is unpacked. A zero field means its default. The largest layers seen
// in the wild have 1.5 million entries, hundreds of bytes of blob for each, and inflate fifty-fold; a bomb inflates a
// thousandfold and has an entry in ten bytes.
type Limits struct {
	Reserve int64 // bytes of the file system left free; default 16 MiB
	Bytes   int64 // bytes that the files of a layer may have whatever its size, holes included; default 16 GiB
	Inflate int64 // bytes that its blob may inflate to whatever its size; default 8 GiB
	Ratio   int64 // bytes of either beyond that per byte of its blob; default 100
	Entries int64 // entries of a layer; default 5 million
	Density int64 // entries it may have beyond 50 000 per KiB of its blob; default 16
	Path    int64 // bytes of a name or link target; default 4095, what the kernel takes
	Depth   int64 // directories below each other; default 256
	Memory  int64 // bytes of memory for the directories of the layers being unpacked; default 64 MiB, some 150 000 directories
	Layers  int64 // layers of an image; default 2000
}

// Fill returns l with defaults in the place of zeros.
func (l Limits) Fill() Limits {
	for _, f := range []struct {
		value *int64
		def   int64
	}{
		{&l.Reserve, 16 << 20}, {&l.Bytes, 16 << 30}, {&l.Inflate, 8 << 30}, {&l.Ratio, 100}, {&l.Entries, 5_000_000}, {&l.Density, 16}, {&l.Path, 4095},
		{&l.Depth, 256}, {&l.Memory, 64 << 20}, {&l.Layers, 2000},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	return l
}

// grown returns the bytes that a blob of size bytes may become, of which slack are allowed whatever its size.
func (l Limits) grown(slack, size int64) int64 {
	if size > (1<<62-slack)/l.Ratio {
		return 1 << 62
	}
	return slack + size*l.Ratio
}

// crowd is how many entries a blob of any size may have, unless Entries are fewer.
const crowd = 50_000

// entries returns how many entries a blob of size bytes may have, and the name of the limit that says so.
func (l Limits) entries(size int64) (int64, string) {
	if dense := crowd + size/1024*l.Density; dense < l.Entries {
		return dense, "density"
	}
	return l.Entries, "entries"
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

// create accounts for the nth file of a layer before it is made. The free inodes are looked up now and then.
func (b *budget) create(n int64) error {
	const step, reserve = 4096, 1024
	if n%step != 1 {
		return nil
	}
	var st unix.Statfs_t
	if unix.Statfs(b.dir, &st) == nil && st.Files > 0 && st.Ffree < step+reserve && st.Ffree < st.Files/4 {
		return &inodesError{}
	}
	return nil
}

// remember accounts for n bytes kept in memory until the layer is done.
func (b *budget) remember(n int) error {
	if b.memory.Add(int64(n)) > b.limits.Memory {
		return &LimitError{"memory", "bytes of memory for directories, whiteouts and links", b.limits.Memory}
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
