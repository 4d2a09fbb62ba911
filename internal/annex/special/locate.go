package special

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/dlrun/dlrun/internal/lazy"
)

// digestKey is a key whose name is the digest of the content; SHA256E adds the ending of the file name.
var digestKey = lazy.Regexp(`^SHA256E?(?:-[a-zA-Z][0-9]+)*--([0-9a-f]{64})(?:\.[^/]*)?$`)

var keySizeSyntax = lazy.Regexp(`^[A-Z0-9_]+(?:-[a-zA-Z][0-9]+)*?-s([0-9]+)-`)

// keySize is the number of bytes that a key says its content has, -1 if it says none.
func keySize(key string) int64 {
	m := keySizeSyntax().FindStringSubmatch(key)
	if m == nil {
		return -1
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// locate returns the places to ask for a key, in order; an error when there is none.
func (s *session) locate(key string) ([]Location, error) {
	urls, err := s.urls(key)
	if err != nil {
		return nil, err
	}
	known := locationsOf(urls)
	var route []Location
	for _, l := range append(known, s.set.guesses(key)...) {
		for _, at := range s.set.Route(l) {
			if !slices.Contains(route, at) {
				route = append(route, at)
			}
		}
	}
	if len(route) == 0 {
		return nil, errors.New("no registry is recorded for this key (dlrun link DIR records them)")
	}
	return route, nil
}

// locationsOf picks the URLs that name a blob, those that only this remote can read first.
func locationsOf(urls []string) []Location {
	var own, others []Location
	for _, url := range urls {
		url = strings.TrimPrefix(url, ":") // how older versions of git-annex hand out a URL that a remote has claimed
		l, ok := ParseURL(url)
		switch {
		case !ok || slices.Contains(own, l) || slices.Contains(others, l):
		case strings.HasPrefix(url, Scheme):
			own = append(own, l)
		default:
			others = append(others, l)
		}
	}
	return append(own, others...)
}

// guesses are the places of a key that is a digest, recorded or not.
func (s Settings) guesses(key string) []Location {
	m := digestKey().FindStringSubmatch(key)
	if m == nil {
		return nil
	}
	var list []Location
	for _, repo := range s.Repos {
		if host, name, ok := parseRepository(repo); ok {
			list = append(list, Location{Host: host, Name: name, Digest: "sha256:" + m[1]})
		}
	}
	return list
}

// stat asks the places one after the other and returns the size that the first one tells that has the blob. The error
// wraps [ErrAbsent] only if all have said that they do not.
func (s *session) stat(route []Location) (int64, error) {
	var unknown, absent []error
	for _, l := range route {
		size, err := s.blobs.Stat(s.ctx, l)
		switch {
		case err == nil:
			return size, nil
		case errors.Is(err, ErrAbsent):
			absent = append(absent, err)
		default:
			unknown = append(unknown, err)
		}
	}
	if len(unknown) > 0 {
		// Without those that answered: they must not make the sum an absence.
		return 0, errors.Join(unknown...)
	}
	return 0, errors.Join(absent...)
}

func (s *session) checkPresent(p []string) ([][]string, error) {
	route, err := s.locate(p[0])
	if err != nil {
		return nil, err
	}
	switch _, err := s.stat(route); {
	case errors.Is(err, ErrAbsent):
		return one("CHECKPRESENT-FAILURE", p[0])
	case err != nil:
		return nil, err
	}
	return one("CHECKPRESENT-SUCCESS", p[0])
}
