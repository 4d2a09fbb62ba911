package special

import (
	"fmt"
	"slices"
	"strings"
)

// Settings of the remote. Those given to `git annex initremote` or enableremote are kept in the git-annex branch and
// hold in every clone.
type Settings struct {
	Repos    []string // HOST/NAME: where keys that are digests are looked for, recorded or not
	Mirrors  []string // [REGISTRY=]HOST[/PREFIX]: asked before the registry, or before every registry
	Insecure []string // HOST[:PORT]: spoken to by http
}

// setting is one of them, as git-annex lists it.
type setting struct {
	name, description string
	list              func(*Settings) *[]string
	valid             func(string) bool
}

func settings() []setting {
	return []setting{
		{"repo", "repositories HOST/NAME,... in which SHA256 keys are looked for without a record", func(s *Settings) *[]string { return &s.Repos }, isRepository},
		{"mirror", "registries [REGISTRY=]HOST[/PREFIX],... that are asked first", func(s *Settings) *[]string { return &s.Mirrors }, isMirror},
		{"insecure", "registries HOST[:PORT],... that are spoken to by http", func(s *Settings) *[]string { return &s.Insecure }, hostAlone().MatchString},
	}
}

func isRepository(s string) bool {
	_, _, ok := parseRepository(s)
	return ok
}

func isMirror(s string) bool {
	_, err := parseMirror(s)
	return err == nil
}

// set adds the values of a list with commas.
func (t setting) set(s *Settings, value string) error {
	for _, v := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		if !t.valid(v) {
			return fmt.Errorf("%s=%s: want %s", t.name, v, t.description)
		}
		if list := t.list(s); !slices.Contains(*list, v) {
			*list = append(*list, v)
		}
	}
	return nil
}

// Set adds the values of the setting called name, separated by commas.
func (s *Settings) Set(name, value string) error {
	for _, t := range settings() {
		if t.name == name {
			return t.set(s, value)
		}
	}
	return fmt.Errorf("no setting %q", name)
}

// Route returns the places that have what l names, in the order in which to ask: mirrors, then l itself.
func (s Settings) Route(l Location) []Location {
	var route []Location
	for _, text := range s.Mirrors {
		m, err := parseMirror(text)
		if err != nil || m.of != "" && m.of != l.Host || m.host == l.Host {
			continue
		}
		via := l
		via.Host, via.Name = m.host, m.prefix+l.Name
		route = append(route, via)
	}
	route = append(route, l)
	for i := range route {
		route[i].Plain = slices.Contains(s.Insecure, route[i].Host)
	}
	return route
}

// mirror is a registry that has copies of another one's blobs.
type mirror struct {
	of     string // the registry; empty: every one
	host   string
	prefix string // put before the repository, with a slash; or empty
}

func parseMirror(s string) (mirror, error) {
	var m mirror
	at := s
	if of, rest, ok := strings.Cut(s, "="); ok {
		if !hostAlone().MatchString(of) {
			return m, fmt.Errorf("mirror %q: %q is no registry", s, of)
		}
		m.of, at = canonicalHost(of), rest
	}
	host, prefix, below := strings.Cut(at, "/")
	if !hostAlone().MatchString(host) || below && !nameAlone().MatchString(prefix) {
		return m, fmt.Errorf("mirror %q: want [REGISTRY=]HOST[/PREFIX]", s)
	}
	m.host = canonicalHost(host)
	if below {
		m.prefix = prefix + "/"
	}
	return m, nil
}
