package layout

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/layout/registry"
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
	limits   Limits
	supply   Supply // nil: nothing is asked for
	foreign  bool   // any platform will do where there is no choice
	cache    documentCache
}

func newQuery(o Options) (query, error) {
	q := query{
		tag: o.Tag, repoTag: o.RepoTag, config: configHex(o.Config), platform: hostPlatform(),
		limits: o.Limits.Fill(), supply: o.Supply, cache: documentCache{o.Caches},
	}
	if o.Digest != "" {
		var err error
		if q.digest, err = v1.NewHash(o.Digest); err == nil {
			err = checkDigest(q.digest)
		}
		if err != nil {
			return query{}, fmt.Errorf("digest %q: %w", o.Digest, err)
		}
	}
	q.foreign = o.Foreign && o.Platform == nil
	if o.Platform != nil {
		q.platform = complete(*o.Platform, q.platform)
	}
	return q, nil
}

// configHex takes away what stands around the image id in manifest.json of a
// docker save, whose users may name a config as it is named there.
func configHex(config string) string {
	for _, prefix := range []string{"sha256:", "blobs/sha256/"} {
		config = strings.TrimPrefix(config, prefix)
	}
	return strings.TrimSuffix(config, ".json")
}

// candidate is a manifest that may be the image.
type candidate struct {
	desc  v1.Descriptor
	tag   string            // of the entry of index.json that leads to it
	notes map[string]string // annotations of that entry
	names []string          // full names of all entries that lead to the manifest
	via   []v1.Descriptor   // the indexes that lead to it, the outermost first
}

func (c candidate) String() string {
	s := c.desc.Digest.String()
	name := cmp.Or(c.notes[fullName], c.tag)
	if id := c.notes[savedID]; id != "" { // the manifest is made up
		s = "image id " + id
	}
	if name != "" {
		s = name + " (" + s + ")"
	}
	if known(c.desc.Platform) {
		s += " " + c.desc.Platform.String()
	}
	return s
}

// The wording of the DataLad docker adapter, which its users know.

func none(p interface{ dir() string }) string {
	return "No matching images found in " + p.dir()
}

func several(p interface{ dir() string }) string {
	return "Multiple images found in " + p.dir() + "; disambiguate with --repo-tag or --config"
}

// narrow keeps the entries of a top index that have the tag and the name that
// the query asks for.
func (q query) narrow(p interface{ dir() string }, entries []v1.Descriptor) ([]v1.Descriptor, error) {
	keep := func(fits func(v1.Descriptor) bool) []v1.Descriptor {
		return slices.DeleteFunc(slices.Clone(entries), func(e v1.Descriptor) bool { return !fits(e) })
	}
	if q.tag != "" {
		tagged := keep(func(e v1.Descriptor) bool { return e.Annotations[refName] == q.tag })
		if len(tagged) == 0 { // podman has the whole name for the tag
			tagged = keep(func(e v1.Descriptor) bool { return strings.HasSuffix(e.Annotations[refName], ":"+q.tag) })
		}
		if len(tagged) == 0 {
			return nil, fmt.Errorf("%s: no tag %q; there is %s", none(p), q.tag, list(tagsOf(entries), "no tag at all"))
		}
		entries = tagged
	}
	if q.repoTag != "" {
		named := keep(func(e v1.Descriptor) bool {
			return e.Annotations[refName] == q.repoTag || e.Annotations[fullName] == q.repoTag || sourceOf(e) == q.repoTag
		})
		if len(named) == 0 { // the name without its registry
			named = keep(func(e v1.Descriptor) bool {
				return strings.HasSuffix(e.Annotations[fullName], "/"+q.repoTag) || strings.HasSuffix(sourceOf(e), "/"+q.repoTag)
			})
		}
		if len(named) == 0 {
			return nil, fmt.Errorf("%s: none is called %q; there is %s", none(p), q.repoTag, list(fullNamesOf(entries), "none with a name"))
		}
		entries = named
	}
	return entries, nil
}

// pick finds the one image that the query asks for, starting from the entries
// of a top index.
func (q query) pick(ctx context.Context, m medium, entries []v1.Descriptor) (candidate, error) {
	entries, err := q.narrow(m, entries)
	if err != nil {
		return candidate{}, err
	}
	s := search{medium: m, digest: q.digest, limits: q.limits, walked: map[visit]bool{}}
	for _, e := range s.matching(entries) {
		if err := s.entry(ctx, e, e.Annotations, 0, q.digest == v1.Hash{}); err != nil {
			return candidate{}, err
		}
	}
	if len(s.found) == 0 {
		if q.digest != (v1.Hash{}) {
			return candidate{}, fmt.Errorf("%s: no index or manifest %s; there is %s", none(m), q.digest, list(digestsOf(entries), "none at all"))
		}
		return candidate{}, errors.New(none(m))
	}
	if err := q.keepConfig(ctx, &s); err != nil {
		return candidate{}, err
	}
	if len(s.found) == 0 {
		return candidate{}, fmt.Errorf("%s: no image id begins with %q", none(m), q.config)
	}
	fit := q.fitting(s.found)
	if len(fit) == 0 && q.foreign {
		fit = distinct(s.found)
	}
	switch len(fit) {
	case 1:
		fit[0].names = namesOf(s.found, fit[0].desc.Digest)
		return fit[0], nil
	case 0:
		platforms := platformsOf(s.found)
		return candidate{}, &hinted{
			fmt.Errorf("%s: wanted %s, there is %s", none(m), q.platform, list(platforms, "none")),
			otherPlatform(platforms),
		}
	default:
		return candidate{}, &hinted{
			fmt.Errorf("%s: %s", several(m), list(stringsOf(fit), "")),
			"pick one with " + howToPick(fit),
		}
	}
}

// keepConfig drops what was found with another image id than the one that the query asks for.
func (q query) keepConfig(ctx context.Context, s *search) error {
	if q.config == "" {
		return nil
	}
	var kept []candidate
	for _, c := range s.found {
		raw, err := readDocument(ctx, s.medium, c.desc, q.limits.ManifestSize, "manifest-size")
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
	for _, c := range found {
		if known(c.desc.Platform) {
			if d, ok := distance(q.platform, *c.desc.Platform); !ok || d != best {
				continue
			}
		}
		fit = append(fit, c)
	}
	return distinct(fit)
}

// distinct drops what was found before under another name.
func distinct(found []candidate) []candidate {
	var once []candidate
	seen := map[v1.Hash]bool{}
	for _, c := range found {
		if !seen[c.desc.Digest] {
			seen[c.desc.Digest] = true
			once = append(once, c)
		}
	}
	return once
}

// namesOf are the full names of what was found under one digest.
func namesOf(found []candidate, digest v1.Hash) []string {
	var names []string
	for _, c := range found {
		if name := c.notes[fullName]; c.desc.Digest == digest && name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// checkConfig compares the platform of the config, the only one told where the
// index is silent. What the config leaves out is taken to fit.
func (q query) checkConfig(config *v1.ConfigFile, dir string) error {
	have := v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
	have = complete(have, q.platform)
	if _, ok := distance(q.platform, have); ok || q.foreign {
		return nil
	}
	return &hinted{
		fmt.Errorf("the image in %s is for %s, wanted %s", dir, have, q.platform),
		otherPlatform([]string{have.String()}),
	}
}

// search walks the tree of indexes.
type search struct {
	medium  medium
	digest  v1.Hash // of the entry whose subtree counts; zero: all do
	limits  Limits
	walked  map[visit]bool
	indexes int64
	entries int64
	via     []v1.Descriptor // the indexes that the walk is in
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
func (s *search) entry(ctx context.Context, e v1.Descriptor, notes map[string]string, depth int, counts bool) error {
	if s.entries++; s.entries > s.limits.IndexEntries {
		return beyond("index-entries", "the indexes in %s have more than %d entries", s.medium.dir(), s.limits.IndexEntries)
	}
	if isAttestation(e) {
		return nil
	}
	if !counts && e.Digest != s.digest {
		var err error
		if counts, err = standsFor(s.medium, e, s.digest, s.limits.document()); err != nil {
			return err
		}
	}
	counts = counts || e.Digest == s.digest
	// The specification asks to pass over entries of unknown types.
	switch ociType(e.MediaType) {
	case types.OCIManifestSchema1:
		if counts {
			s.found = append(s.found, candidate{desc: e, tag: notes[refName], notes: notes, via: slices.Clone(s.via)})
		}
	case types.OCIImageIndex:
		at := visit{e.Digest, counts}
		if s.walked[at] {
			return nil
		}
		s.walked[at] = true
		return s.nested(ctx, e, notes, depth+1, counts)
	}
	return nil
}

func (s *search) nested(ctx context.Context, e v1.Descriptor, notes map[string]string, depth int, counts bool) error {
	if int64(depth) > s.limits.IndexDepth {
		return beyond("index-depth", "the indexes in %s are nested deeper than %d", s.medium.dir(), s.limits.IndexDepth)
	}
	if s.indexes++; s.indexes > s.limits.Indexes {
		return beyond("indexes", "there are more than %d indexes in %s", s.limits.Indexes, s.medium.dir())
	}
	raw, err := readDocument(ctx, s.medium, e, s.limits.IndexSize, "index-size")
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	entries, err := parseIndex(raw, e.MediaType)
	if err != nil {
		return fmt.Errorf("index %s in %s: %w", e.Digest, s.medium.dir(), err)
	}
	s.via = append(s.via, e)
	defer func() { s.via = s.via[:len(s.via)-1] }()
	if !counts {
		entries = s.matching(entries)
	}
	for _, e := range entries {
		if err := s.entry(ctx, e, notes, depth, counts); err != nil {
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

// otherPlatform is what to type for the first of platforms that a kernel may run, through an emulator.
func otherPlatform(platforms []string) string {
	for _, p := range platforms {
		if strings.HasPrefix(p, "linux/") {
			return "--platform " + p
		}
	}
	return ""
}

func digestsOf(entries []v1.Descriptor) []string {
	var digests []string
	for _, e := range entries {
		if d := e.Digest.String(); !slices.Contains(digests, d) {
			digests = append(digests, d)
		}
	}
	return digests
}

// sourceOf is the name, IMAGE:TAG, under which an entry was fetched from a registry.
func sourceOf(e v1.Descriptor) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(e.Annotations[sourceName], registry.Scheme), "@")
	return name
}

// fullNamesOf are the names that --repo-tag knows.
func fullNamesOf(entries []v1.Descriptor) []string {
	var names []string
	for _, e := range entries {
		for _, name := range []string{e.Annotations[fullName], sourceOf(e)} {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// howToPick are the flags that tell several candidates apart.
func howToPick(several []candidate) string {
	switch c := several[0]; {
	case c.notes[savedID] != "":
		return "--repo-tag or --config"
	case c.notes[fullName] != "":
		return "--repo-tag or --digest"
	}
	return "--tag or --digest"
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
