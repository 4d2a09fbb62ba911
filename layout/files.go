package layout

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// File is a file that holds a blob of an image.
type File struct {
	Path   string  // in the caller's spelling; it need not be there
	Blob   v1.Hash // the digest that the manifest has for it
	Size   int64   // bytes
	DiffID v1.Hash // of a layer; the zero value for the config
}

// Files returns where the config and the layers of an image lie that is kept in a directory, the config first, each layer once; nil
// for an archive. What a descriptor embeds has no file.
func (i *Image) Files() []File {
	m, ok := stored(i.medium).(filed)
	if !ok {
		return nil
	}
	if _, isDir := m.in().(directory); !isDir {
		return nil
	}
	var list []File
	seen := map[v1.Hash]bool{}
	add := func(d v1.Descriptor, diffID v1.Hash) {
		name := m.file(d)
		if !seen[d.Digest] && name != "" && !embedded(d) {
			seen[d.Digest] = true
			list = append(list, File{m.in().path(name), d.Digest, d.Size, diffID})
		}
	}
	add(i.manifest.Config, v1.Hash{})
	for _, l := range i.layers {
		add(l.desc, l.diffID)
	}
	return list
}

// Sources are where the image is said to come from, as docker://NAME.
func (i *Image) Sources() []string {
	return sourcesOf([]v1.Descriptor{{Annotations: i.notes}})
}
