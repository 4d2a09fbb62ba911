package unpack

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxRead bounds what ReadFile returns, in bytes.
const maxRead = 4 << 20

// ReadFile returns a regular file of the root, for what must be known of an image before it is mounted. Name is relative
// and clean. Symbolic links that lead out of its layer are not followed, nor is a fifo waited for: what is no file that is
// simply there is an error, fs.ErrNotExist where the topmost layer that knows name has none.
func (r *Root) ReadFile(name string) ([]byte, error) {
	layers := r.Layers
	if r.Dir != "" {
		layers = []string{r.Dir}
	}
	for i := len(layers) - 1; i >= 0; i-- {
		data, err := readIn(layers[i], name)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func readIn(layer, name string) ([]byte, error) {
	root, err := os.OpenRoot(layer)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxRead {
		return nil, fmt.Errorf("%s of the image is no regular file of up to %d bytes", name, maxRead)
	}
	return io.ReadAll(io.LimitReader(f, maxRead))
}
