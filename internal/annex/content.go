package annex

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
)

// Content returns the files in which the repository that holds dir may keep the content of a key, those that exist. dir
// is absolute and need not exist itself. What the files hold is not looked at.
func Content(dir, key string) []string {
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			dir = real
			break
		}
		if dir == "/" {
			return nil
		}
		dir = filepath.Dir(dir)
	}
	r, ok := enclosing(dir)
	if !ok {
		return nil
	}
	var files []string
	for _, hashed := range []string{mixedDir(key), lowerDir(key)} {
		file := filepath.Join(r.common, "annex/objects", hashed, key, key)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	return files
}

// mixedDir is the directory of a key in a repository with a work tree, lowerDir in a bare one: see
// https://git-annex.branchable.com/internals/hashing/.
func mixedDir(key string) string {
	const letters = "0123456789zqjxkmvwgpfZQJXKMVWGPF"
	sum := md5.Sum([]byte(key))
	word := binary.LittleEndian.Uint32(sum[:4])
	var c [4]byte
	for i := range c {
		c[i] = letters[word>>(6*i)&31]
	}
	return string([]byte{c[1], c[0], '/', c[3], c[2]})
}

func lowerDir(key string) string {
	sum := md5.Sum([]byte(key))
	s := hex.EncodeToString(sum[:])
	return s[:3] + "/" + s[3:6]
}
