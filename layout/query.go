package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations of an entry of index.json: its tag, and its full name as containerd and Docker 25 write it.
const (
	refName  = "org.opencontainers.image.ref.name"
	fullName = "io.containerd.image.name"
)

// query is what the caller asks for, checked.
type query struct {
	tag      string
	repoTag  string  // IMAGE:TAG
	config   string  // the first hex digits of the image id
	digest   v1.Hash // the zero value asks for none
	platform v1.Platform
}

func newQuery(o Options) (query, error) {
	q := query{tag: o.Tag, repoTag: o.RepoTag, config: strings.TrimPrefix(o.Config, "sha256:"), platform: hostPlatform()}
	if o.Digest != "" {
		var err error
		if q.digest, err = v1.NewHash(o.Digest); err == nil {
			err = checkDigest(q.digest)
		}
		if err != nil {
			return query{}, fmt.Errorf("digest %q: %w", o.Digest, err)
		}
	}
	if o.Platform != nil {
		q.platform = complete(*o.Platform, q.platform)
	}
	return q, nil
}

// candidate is a manifest that may be the image.
type candidate struct {
	desc v1.Descriptor
	tag  string // of the entry of index.json that leads to it
}

func (c candidate) String() string {
	s := c.desc.Digest.String()
	if c.tag != "" {
		s = c.tag + " (" + s + ")"
	}
	if known(c.desc.Platform) {
		s += " " + c.desc.Platform.String()
	}
	return s
}

// pick finds the one image that the query asks for, starting from the entries
// of a top index.
func (q query) pick(ctx context.Context, m medium, entries []v1.Descriptor) (candidate, error) {
	// The wording of the DataLad docker adapter, which its users know.
	none := "No matching images found in " + m.dir()
	several := "Multiple images found in " + m.dir() + "; disambiguate with --repo-tag or --config"
	if q.tag != "" {
		tagged := slices.DeleteFunc(slices.Clone(entries), func(e v1.Descriptor) bool {
			return e.Annotations[refName] != q.tag
		})
		if len(tagged) == 0 {
			return candidate{}, fmt.Errorf("%s: no tag %q; there is %s", none, q.tag, list(tagsOf(entries), "no tag at all"))
		}
		entries = tagged
	}
	if q.repoTag != "" {
		named := slices.DeleteFunc(slices.Clone(entries), func(e v1.Descriptor) bool { return !hasName(e, q.repoTag) })
		if len(named) == 0 {
			return candidate{}, fmt.Errorf("%s: none is called %q", none, q.repoTag)
		}
		entries = named
	}
	s := search{medium: m, digest: q.digest, walked: map[visit]bool{}}
	for _, e := range s.matching(entries) {
		if err := s.entry(ctx, e, e.Annotations[refName], 0, q.digest == v1.Hash{}); err != nil {
			return candidate{}, err
		}
	}
	if len(s.found) == 0 {
		if q.digest != (v1.Hash{}) {
			return candidate{}, fmt.Errorf("%s: no index or manifest %s", none, q.digest)
		}
		return candidate{}, errors.New(none)
	}
	if err := q.keepConfig(ctx, &s); err != nil {
		return candidate{}, err
	}
	if len(s.found) == 0 {
		return candidate{}, fmt.Errorf("%s: no image id begins with %q", none, q.config)
	}
	switch fit := q.fitting(s.found); len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		platforms := platformsOf(s.found)
		return candidate{}, &hinted{
			fmt.Errorf("%s: wanted %s, there is %s", none, q.platform, list(platforms, "none")),
			"--platform " + platforms[0],
		}
	default:
		return candidate{}, &hinted{
			fmt.Errorf("%s: %s", several, list(stringsOf(fit), "")),
			"pick one with --tag or --digest",
		}
	}
}

// hasName reports whether an entry is called name: IMAGE:TAG, with or without its registry.
func hasName(e v1.Descriptor, name string) bool {
	full := e.Annotations[fullName]
	return e.Annotations[refName] == name || full == name || strings.HasSuffix(full, "/"+name)
}

// keepConfig drops what was found with another image id than the one that the query asks for.
func (q query) keepConfig(ctx context.Context, s *search) error {
	if q.config == "" {
		return nil
	}
	var kept []candidate
	for _, c := range s.found {
		raw, err := readBlob(ctx, s.medium, c.desc, maxManifestSize)
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		m, _, err := parseManifest(raw, c.desc.MediaType)
		if err != nil {
			return fmt.Errorf("manifest %s in %s: %w", c.desc.Digest, s.medium.dir(), err)
		}
		if strings.HasPrefix(m.Config.Digest.Hex, q.config) {
			kept = append(kept, c)
		}
	}
	s.found = kept
	return nil
}

// fitting keeps what the platform asked for can run, of several variants the
// best. An entry that does not tell its platform stays: it is neither better
// nor worse than those that do. One manifest under two names is one.
func (q query) fitting(found []candidate) []candidate {
	best := -1
	for _, c := range found {
		if !known(c.desc.Platform) {
			continue
		}
		if d, ok := distance(q.platform, *c.desc.Platform); ok && (best < 0 || d < best) {
			best = d
		}
	}
	var fit []candidate
	seen := map[v1.Hash]bool{}
	for _, c := range found {
		if known(c.desc.Platform) {
			if d, ok := distance(q.platform, *c.desc.Platform); !ok || d != best {
				continue
			}
		}
		if !seen[c.desc.Digest] {
			seen[c.desc.Digest] = true
			fit = append(fit, c)
		}
	}
	return fit
}

// checkConfig compares the platform of the config, the only one told where the
// index is silent. What the config leaves out is taken to fit.
func (q query) checkConfig(config *v1.ConfigFile, dir string) error {
	have := v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
	have = complete(have, q.platform)
	if _, ok := distance(q.platform, have); ok {
		return nil
	}
	return &hinted{
		fmt.Errorf("the image in %s is for %s, wanted %s", dir, have, q.platform),
		"--platform " + have.String(),
	}
}

// search walks the tree of indexes.
type search struct {
	medium  medium
	digest  v1.Hash // of the entry whose subtree counts; zero: all do
	walked  map[visit]bool
	indexes int
	entries int
	found   []candidate
}

// visit is an index on the walk, and whether it lies at or below the entry
// that was asked for. Each is walked once, so an index that names its children
// many times over costs no more than one that names them once.
type visit struct {
	digest v1.Hash
	counts bool
}

// matching narrows entries to the one that was asked for, if it is among them,
// so that its siblings need not be read.
func (s *search) matching(entries []v1.Descriptor) []v1.Descriptor {
	for i, e := range entries {
		if e.Digest == s.digest && s.digest != (v1.Hash{}) {
			return entries[i : i+1]
		}
	}
	return entries
}

// entry visits one entry of an index at the given depth; counts says that all
// below is asked for.
func (s *search) entry(ctx context.Context, e v1.Descriptor, tag string, depth int, counts bool) error {
	if s.entries++; s.entries > maxIndexEntries {
		return fmt.Errorf("the indexes in %s have more than %d entries", s.medium.dir(), maxIndexEntries)
	}
	if isAttestation(e) {
		return nil
	}
	counts = counts || e.Digest == s.digest
	// The specification asks to pass over entries of unknown types.
	switch ociType(e.MediaType) {
	case types.OCIManifestSchema1:
		if counts {
			s.found = append(s.found, candidate{e, tag})
		}
	case types.OCIImageIndex:
		at := visit{e.Digest, counts}
		if s.walked[at] {
			return nil
		}
		s.walked[at] = true
		return s.nested(ctx, e, tag, depth+1, counts)
	}
	return nil
}

func (s *search) nested(ctx context.Context, e v1.Descriptor, tag string, depth int, counts bool) error {
	if depth > maxIndexDepth {
		return fmt.Errorf("the indexes in %s are nested deeper than %d", s.medium.dir(), maxIndexDepth)
	}
	if s.indexes++; s.indexes > maxIndexes {
		return fmt.Errorf("there are more than %d indexes in %s", maxIndexes, s.medium.dir())
	}
	raw, err := readBlob(ctx, s.medium, e, maxIndexSize)
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	entries, err := parseIndex(raw, e.MediaType)
	if err != nil {
		return fmt.Errorf("index %s in %s: %w", e.Digest, s.medium.dir(), err)
	}
	if !counts {
		entries = s.matching(entries)
	}
	for _, e := range entries {
		if err := s.entry(ctx, e, tag, depth, counts); err != nil {
			return err
		}
	}
	return nil
}

// isAttestation knows the entries that BuildKit adds beside the images.
func isAttestation(e v1.Descriptor) bool {
	_, refers := e.Annotations["vnd.docker.reference.type"]
	return refers || e.Platform != nil && e.Platform.OS == "unknown" && e.Platform.Architecture == "unknown"
}

// embedded says whether a descriptor carries its blob with it.
func embedded(d v1.Descriptor) bool {
	if len(d.Data) == 0 || int64(len(d.Data)) != d.Size {
		return false
	}
	h, _, err := v1.SHA256(bytes.NewReader(d.Data))
	return err == nil && h == d.Digest
}

func tagsOf(entries []v1.Descriptor) []string {
	var tags []string
	for _, e := range entries {
		if tag := e.Annotations[refName]; tag != "" && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

func platformsOf(found []candidate) []string {
	var platforms []string
	for _, c := range found {
		if p := c.desc.Platform.String(); !slices.Contains(platforms, p) {
			platforms = append(platforms, p)
		}
	}
	return platforms
}

func stringsOf(found []candidate) []string {
	var s []string
	for _, c := range found {
		s = append(s, c.String())
	}
	return s
}

// list joins choices for a message, the first few of many.
func list(choices []string, none string) string {
	if len(choices) == 0 {
		return none
	}
	more := ""
	if n := len(choices) - maxListed; n > 0 {
		choices, more = choices[:maxListed], fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(choices, ", ") + more
}
