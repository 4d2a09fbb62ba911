package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Formats of an archive.
const (
	DockerArchive = "docker-archive" // what docker save writes: layers are plain tars
	OCIArchive    = "oci-archive"    // an OCI layout: layers as they are stored
)

// ExportOptions say what an archive is like. The zero value is a plain docker-archive.
type ExportOptions struct {
	Format string // DockerArchive when empty
	// Names are IMAGE:TAG, by which the image is known in the archive; nil for those
	// that it is known by where it lies. An OCIArchive keeps the first alone.
	Names []string
	// Compression of the whole archive: "", gzip or zstd.
	Compression string
	// Level is 1 to 9 for gzip, 1 to 22 for zstd, 0 for the default. zstd has four
	// that differ: 1-2, 3-5, 6-9, 10-22.
	Level int
}

// Export writes an archive of the image. The image id stays, and so do layers of an
// OCIArchive; those of a DockerArchive are decompressed, twice, as the
// header of a file in a tar comes before its content. All that is read is verified.
// The same image and options give the same bytes: nothing of the place, the time
// or the machine is in them.
func (i *Image) Export(ctx context.Context, w io.Writer, o ExportOptions) error {
	names := o.Names
	if names == nil {
		names = i.knownNames()
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return err
		}
	}
	packed, err := compress(w, o.Compression, o.Level)
	if err != nil {
		return err
	}
	t := tar.NewWriter(packed)
	switch o.Format {
	case "", DockerArchive:
		err = i.exportDocker(ctx, t, names)
	case OCIArchive:
		err = i.exportOCI(ctx, t, names)
	default:
		err = fmt.Errorf("format %q is neither %s nor %s", o.Format, DockerArchive, OCIArchive)
	}
	if err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return packed.Close()
}

// knownNames are the names that the place has for the image, else the one that
// it was fetched by.
func (i *Image) knownNames() []string {
	if len(i.names) > 0 {
		return i.names
	}
	if checkName(i.tag) == nil {
		return []string{i.tag}
	}
	source, _, _ := strings.Cut(strings.TrimPrefix(i.notes[sourceName], "docker://"), "@")
	for _, name := range []string{source, source + ":" + i.tag} {
		if checkName(name) == nil {
			return []string{name}
		}
	}
	return nil
}

func checkName(s string) error {
	t, err := name.NewTag(s)
	if err != nil {
		return fmt.Errorf("%q is no IMAGE:TAG: %w", s, err)
	}
	if !strings.HasSuffix(s, ":"+t.TagStr()) {
		return fmt.Errorf("%q is no IMAGE:TAG: it has no tag", s)
	}
	return nil
}

// exportDocker writes manifest.json, HEX.json and a DIFF_ID.tar a layer.
func (i *Image) exportDocker(ctx context.Context, t *tar.Writer, names []string) error {
	id := i.manifest.Config.Digest
	entry := savedImage{Config: id.Hex + ".json", RepoTags: names, Layers: []string{}}
	once := map[v1.Hash]bool{}
	var layers []*blobLayer
	for _, l := range i.layers {
		entry.Layers = append(entry.Layers, l.diffID.Hex+".tar")
		if !once[l.diffID] {
			once[l.diffID] = true
			layers = append(layers, l)
		}
	}
	sizes := make([]int64, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for n, l := range layers {
		g.Go(func() (err error) {
			sizes[n], err = l.tarSize(gctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	list, err := json.Marshal([]savedImage{entry})
	if err != nil {
		return err
	}
	if err := addFile(t, "manifest.json", append(list, '\n')); err != nil {
		return err
	}
	if err := addFile(t, entry.Config, i.rawConfig); err != nil {
		return err
	}
	for n, l := range layers {
		if err := t.WriteHeader(archived(l.diffID.Hex+".tar", sizes[n])); err != nil {
			return err
		}
		if _, err := l.copyTar(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// tarSize is the size of the layer's tar, which is read for it only when it is stored
// compressed.
func (l *blobLayer) tarSize(ctx context.Context) (int64, error) {
	src, err := l.Compressed()
	if err != nil {
		return 0, err
	}
	defer src.Close() // of what is not read to its end, an error that says so
	if v, ok := src.(*verifier); ok && v.ahead == nil && l.desc.Size > 0 {
		var head [4]byte
		n, err := io.ReadFull(src, head[:])
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return 0, err
		}
		if compression(head[:n]) == plain {
			return l.desc.Size, nil
		}
	}
	return l.copyTar(ctx, io.Discard)
}

// copyTar writes the layer's tar, and verifies the blob and its diff_id.
func (l *blobLayer) copyTar(ctx context.Context, w io.Writer) (int64, error) {
	src, err := l.Compressed()
	if err != nil {
		return 0, err
	}
	n, err := l.inflateTo(w, contextReader{ctx, src})
	if err != nil {
		src.Close() // it would say the same again
		return n, err
	}
	return n, src.Close()
}

func (l *blobLayer) inflateTo(w io.Writer, stored io.Reader) (int64, error) {
	fail := func(err error) error {
		// That the blob is damaged says more than that it cannot be decompressed.
		if _, damage := io.Copy(io.Discard, stored); damage != nil {
			return damage
		}
		return fmt.Errorf("decompress layer %s in %s: %w", l.desc.Digest, l.medium.dir(), err)
	}
	r, err := inflate(io.NopCloser(stored))
	if err != nil {
		return 0, fail(err)
	}
	sum := sha256.New()
	n, err := io.Copy(outWriter{io.MultiWriter(sum, w)}, &bounded{r: r, left: maxArchive + maxRatio*l.desc.Size})
	var out *writeError
	if err = errors.Join(err, r.Close()); errors.As(err, &out) {
		return n, out.err
	}
	if err != nil {
		return n, fail(err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != l.diffID.Hex {
		return n, fmt.Errorf("layer %s in %s: its content is sha256:%s, the config says %s", l.desc.Digest, l.medium.dir(), got, l.diffID)
	}
	return n, nil
}

// writeError is an error of where something is copied to, not of where it is from.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

type outWriter struct{ w io.Writer }

func (o outWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}

// exportOCI writes an OCI layout with one image, under OCI's media types.
func (i *Image) exportOCI(ctx context.Context, t *tar.Writer, names []string) error {
	i, err := i.Measured(ctx)
	if err != nil {
		return err
	}
	named := *i
	if len(names) > 0 { // as podman has it, and as Docker and containerd have it
		named.tag, named.notes = names[0], maps.Clone(i.notes)
		if named.notes == nil {
			named.notes = map[string]string{}
		}
		named.notes[fullName] = names[0]
	}
	documents, err := named.documents(ctx, "")
	if err != nil {
		return err
	}
	delete(documents.files, ".gitattributes")
	// Without them skopeo makes these directories root's, which fails for users.
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documents.files)) {
		if err := addFile(t, name, documents.files[name]); err != nil {
			return err
		}
	}
	for _, d := range documents.layers {
		if err := (&blobLayer{medium: i.medium, desc: d}).copyBlob(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// copyBlob writes the layer as it is stored.
func (l *blobLayer) copyBlob(ctx context.Context, t *tar.Writer) error {
	src, err := l.Compressed()
	if err != nil {
		return err
	}
	err = t.WriteHeader(archived(blobName(l.desc.Digest), l.desc.Size))
	if err == nil {
		_, err = io.Copy(t, contextReader{ctx, src})
	}
	if err != nil {
		src.Close() // its own complaint is that it was not read to its end
		return err
	}
	return src.Close()
}

func addFile(t *tar.Writer, name string, content []byte) error {
	if err := t.WriteHeader(archived(name, int64(len(content)))); err != nil {
		return err
	}
	_, err := io.Copy(t, bytes.NewReader(content))
	return err
}

// archived is the header of a file of an archive; the time is that of no clock.
func archived(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}

// compress writes to w; one core does it all, lest the bytes depend on how many
// there are.
func compress(w io.Writer, how string, level int) (io.WriteCloser, error) {
	most := map[string]int{gzipped: gzip.BestCompression, zstdized: 22}[how]
	if level < 0 || level > most && how != plain {
		return nil, fmt.Errorf("compression level %d of %s is not between 1 and %d", level, how, most)
	}
	switch how {
	case plain:
		if level != 0 {
			return nil, fmt.Errorf("compression level %d of an archive that is not compressed", level)
		}
		return nopWriteCloser{w}, nil
	case gzipped:
		if level == 0 {
			level = gzip.DefaultCompression
		}
		return gzip.NewWriterLevel(w, level)
	case zstdized:
		if level == 0 {
			level = 3
		}
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
	}
	return nil, fmt.Errorf("compression %q is neither gzip nor zstd", how)
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }
