package annex

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
)

// gitmodulesMax bounds a .gitmodules file, in bytes; datasets with a thousand subdatasets stay below 200 kB.
const gitmodulesMax = 4 << 20

// submodulePaths returns the paths that a .gitmodules file registers, clean
// and relative to its work tree, in the order of first mention. As in git, a
// later path of the same submodule wins, and paths that leave the work tree
// are ignored. A line that git would refuse is skipped.
func submodulePaths(text []byte) []string {
	var names []string
	paths := map[string]string{}
	parseConfig(text, func(section, name, key, value string) {
		if section != "submodule" || key != "path" {
			return
		}
		if _, seen := paths[name]; !seen {
			names = append(names, name)
		}
		paths[name] = value
	})
	var list []string
	for _, name := range names {
		path := filepath.Clean(paths[name])
		if paths[name] != "" && path != "." && filepath.IsLocal(path) && !strings.ContainsRune(path, 0) && !slices.Contains(strings.Split(path, "/"), ".git") {
			list = append(list, path)
		}
	}
	return list
}

// parseConfig reads the syntax of git-config(1) and calls set for every
// variable with a value. Sections and keys arrive in lower case.
func parseConfig(text []byte, set func(section, subsection, key, value string)) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	s := configScanner{rest: bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))}
	var section, subsection string
	for len(s.rest) > 0 {
		switch c := s.next(); {
		case c == '\n' || c == ' ' || c == '\t':
		case c == '#' || c == ';':
			s.skipLine()
		case c == '[':
			var ok bool
			if section, subsection, ok = s.header(); !ok {
				section = ""
				s.skipLine()
			}
		case isLetter(c):
			key := strings.ToLower(string(c) + s.take(isKeyByte))
			s.take(isBlank)
			if s.peek() != '=' {
				s.skipLine()
				continue
			}
			s.next()
			if value, ok := s.value(); ok {
				set(section, subsection, key, value)
			}
		default:
			s.skipLine()
		}
	}
}

// configScanner consumes a git config text from the front.
type configScanner struct{ rest []byte }

// next and peek return '\n' at the end of the text.
func (s *configScanner) next() byte {
	c := s.peek()
	if len(s.rest) > 0 {
		s.rest = s.rest[1:]
	}
	return c
}

func (s *configScanner) peek() byte {
	if len(s.rest) == 0 {
		return '\n'
	}
	return s.rest[0]
}

func (s *configScanner) take(want func(byte) bool) string {
	n := 0
	for n < len(s.rest) && want(s.rest[n]) {
		n++
	}
	taken := string(s.rest[:n])
	s.rest = s.rest[n:]
	return taken
}

func (s *configScanner) skipLine() {
	s.take(func(c byte) bool { return c != '\n' })
}

// header reads `section]`, `section.sub]` or `section "sub"]`.
func (s *configScanner) header() (section, subsection string, ok bool) {
	name := strings.ToLower(s.take(func(c byte) bool { return isKeyByte(c) || c == '.' }))
	// The dotted form is the old one, and folds the case of both parts.
	section, subsection, _ = strings.Cut(name, ".")
	if isBlank(s.peek()) {
		s.take(isBlank)
		if section != name || s.peek() != '"' {
			return "", "", false
		}
		s.next()
		var sub []byte
		for s.peek() != '"' {
			c := s.peek()
			if c == '\\' {
				s.next()
				c = s.peek()
			}
			if c == '\n' {
				return "", "", false
			}
			s.next()
			sub = append(sub, c)
		}
		s.next()
		subsection = string(sub)
	}
	if section == "" || s.peek() != ']' {
		return "", "", false
	}
	s.next()
	return section, subsection, true
}

// value reads to the end of the line, or of the last one that a backslash continues.
func (s *configScanner) value() (string, bool) {
	var value []byte
	end := 0 // of the value without trailing blanks
	quoted := false
	for {
		c := s.peek()
		if c == '\n' {
			return string(value[:end]), !quoted
		}
		s.next()
		switch {
		case c == '\\':
			switch c = s.peek(); c {
			case '\n':
				s.next()
				continue
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'b':
				c = '\b'
			case '"', '\\':
			default:
				s.skipLine()
				return "", false
			}
			s.next()
		case c == '"':
			quoted = !quoted
			end = len(value)
			continue
		case !quoted && (c == '#' || c == ';'):
			s.skipLine()
			continue
		case !quoted && isBlank(c):
			if len(value) > 0 {
				value = append(value, c)
			}
			continue
		}
		value = append(value, c)
		end = len(value)
	}
}

func isBlank(c byte) bool   { return c == ' ' || c == '\t' }
func isLetter(c byte) bool  { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool   { return '0' <= c && c <= '9' }
func isKeyByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' }
