package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/unpack"
)

// storeFlags say where unpacked images lie, and how many.
type storeFlags struct {
	cache  string
	size   sizeFlag
	limits unpack.Limits // of the verb's imageFlags
	flags  *pflag.FlagSet
}

func (f *storeFlags) register(fs *pflag.FlagSet) {
	f.flags = fs
	fs.StringVar(&f.cache, "cache", "", "keep unpacked images in `DIR` (default: see dlrun cache path -v)")
	fs.Var(&f.size, "cache-size", "after an unpack, remove images not used for longest beyond `SIZE` (default: a quarter of the file system; 0: never)")
}

// maxSize is what unpack.Options say of the flag.
func (f *storeFlags) maxSize() int64 {
	if f.size.set && f.size.bytes == 0 {
		return -1
	}
	return f.size.bytes
}

// place is a directory for the store, and why it is one.
type place struct{ dir, why string }

// places returns the stores to try, the first that can be trusted and used is taken: the one that is named, else the
// node-local scratch of a batch job, which spares a shared file server the many small files, else the user's cache.
func (f *storeFlags) places() []place {
	if f.cache != "" {
		dir, err := filepath.Abs(f.cache)
		if err != nil {
			dir = f.cache // the current directory is gone: whoever opens it says so
		}
		return []place{{dir, f.from()}}
	}
	var list []place
	for _, name := range []string{"SLURM_TMPDIR", "TMPDIR"} {
		if dir := os.Getenv(name); filepath.IsAbs(dir) && (name != "TMPDIR" || isJobScratch(dir)) && unpack.IsLocal(dir) {
			list = append(list, place{ownDir(dir), "node-local scratch of the job ($" + name + ")"})
			break
		}
	}
	if cache := userDir("XDG_CACHE_HOME", ".cache"); cache != "" {
		list = append(list, place{filepath.Join(cache, "dlrun"), "the user's cache directory ($XDG_CACHE_HOME, else ~/.cache)"})
	}
	return append(list, place{ownDir("/var/tmp"), "there is no better place"})
}

// ownDir is the store in a directory that others use too.
func ownDir(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("dlrun-%d", os.Getuid()), "store")
}

// isJobScratch reports whether $TMPDIR was made for a batch job, as Grid Engine, PBS and LSF do.
func isJobScratch(dir string) bool {
	if clean := filepath.Clean(dir); clean == "/tmp" || clean == "/var/tmp" {
		return false
	}
	for _, name := range []string{"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "FLUX_JOB_ID"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// from says what named the store.
func (f *storeFlags) from() string {
	if where := f.flags.Lookup("cache").Annotations[from]; len(where) > 0 {
		return where[0]
	}
	return "--cache"
}

// chosen returns the place that a run would take, and those that it would pass over, with the reasons.
func (f *storeFlags) chosen(owners []int) (place, []place) {
	var over []place
	if why := f.flags.Lookup("cache").Annotations[passed]; f.cache == "" && len(why) > 0 {
		over = append(over, place{"what is configured", why[0]})
	}
	list := f.places()
	for i, p := range list {
		_, err := unpack.Open(p.dir, unpack.Options{Owners: owners})
		switch {
		case i == len(list)-1:
			return p, over
		case err != nil:
			over = append(over, place{p.dir, err.Error()})
		case !canMake(p.dir):
			over = append(over, place{p.dir, "it cannot be written to"})
		default:
			return p, over
		}
	}
	return place{}, over
}

// canMake reports whether the caller may write to dir, or make it.
func canMake(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
			return unix.Access(dir, unix.W_OK|unix.X_OK) == nil
		}
	}
}

// sizeFlag is a number of bytes.
type sizeFlag struct {
	bytes int64
	set   bool
	text  string
}

// Type is what the help calls the value.
func (*sizeFlag) Type() string { return "SIZE" }

func (f *sizeFlag) String() string { return f.text }

// Set reads a number with a unit or without.
func (f *sizeFlag) Set(text string) (err error) {
	f.bytes, err = parseSize(text)
	f.text, f.set = text, err == nil
	return err
}
