package special

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// request is something that git-annex asks of a special remote.
type request struct {
	params int    // how many; the last may hold spaces
	failed string // begins the answer when it fails,
	echoed int    // followed by so many of the parameters
	do     func(s *session, p []string) (replies [][]string, err error)
}

// requests are those of the protocol that are understood; any other is answered by UNSUPPORTED-REQUEST, which is what the
// protocol asks for. Of exports only the question whether there are any is: then no other comes.
var requests = map[string]request{
	// Before anything is used.
	"EXTENSIONS":      {1, "", 0, (*session).extensions},
	"LISTCONFIGS":     {0, "", 0, (*session).listConfigs},
	"INITREMOTE":      {0, "INITREMOTE-FAILURE", 0, (*session).initRemote},
	"PREPARE":         {0, "PREPARE-FAILURE", 0, (*session).prepare},
	"EXPORTSUPPORTED": {0, "", 0, reply("EXPORTSUPPORTED-FAILURE")},

	// About the remote. 250 is above the 200 of ssh and web: a copy that is nearer is taken first.
	"GETCOST":         {0, "", 0, reply("COST", "250")},
	"GETAVAILABILITY": {0, "", 0, reply("AVAILABILITY", "GLOBAL")},
	"GETINFO":         {0, "", 0, (*session).getInfo},

	// About a URL.
	"CLAIMURL": {1, "", 0, (*session).claimURL},
	"CHECKURL": {1, "CHECKURL-FAILURE", 0, (*session).checkURL},

	// About a key.
	"WHEREIS":      {1, "", 0, (*session).whereIs},
	"CHECKPRESENT": {1, "CHECKPRESENT-UNKNOWN", 1, (*session).checkPresent},
	"TRANSFER":     {3, "TRANSFER-FAILURE", 2, (*session).transfer},
	"REMOVE":       {1, "REMOVE-FAILURE", 1, (*session).remove},

	"ERROR": {1, "", 0, func(_ *session, p []string) ([][]string, error) {
		return nil, &lostError{fmt.Errorf("git-annex: %s", p[0]), true}
	}},
}

// reply is the answer to a request that always has the same.
func reply(words ...string) func(*session, []string) ([][]string, error) {
	return func(*session, []string) ([][]string, error) { return one(words...) }
}

func one(words ...string) ([][]string, error) { return [][]string{words}, nil }

// errGetOnly refuses what would change a registry.
var errGetOnly = errors.New("images are pushed to a registry by other tools; this remote only gets their layers")

// extensions notes what git-annex understands, and names what is used of it: INFO.
func (s *session) extensions(p []string) ([][]string, error) {
	for _, name := range strings.Fields(p[0]) {
		if name == "INFO" {
			s.info = true
			return one("EXTENSIONS", "INFO")
		}
	}
	return one("EXTENSIONS", "")
}

func (s *session) listConfigs([]string) ([][]string, error) {
	var list [][]string
	for _, t := range settings() {
		list = append(list, []string{"CONFIG", t.name, t.description})
	}
	return append(list, []string{"CONFIGEND"}), nil
}

// initRemote refuses settings that could never work. Content that git-annex has encrypted is in no registry.
func (s *session) initRemote([]string) ([][]string, error) {
	encryption, err := s.config("encryption")
	if err != nil {
		return nil, err
	}
	if encryption != "none" && encryption != "" {
		return nil, fmt.Errorf("encryption=%s: registries have layers as they are; use encryption=none", encryption)
	}
	if err := s.configure(); err != nil {
		return nil, err
	}
	return one("INITREMOTE-SUCCESS")
}

func (s *session) prepare([]string) ([][]string, error) {
	if err := s.configure(); err != nil {
		return nil, err
	}
	return one("PREPARE-SUCCESS")
}

// configure reads the settings of the remote.
func (s *session) configure() error {
	var now Settings
	for _, t := range settings() {
		value, err := s.config(t.name)
		if err != nil {
			return err
		}
		if err := t.set(&now, value); err != nil {
			return err
		}
	}
	s.set = now
	return nil
}

func (s *session) getInfo([]string) ([][]string, error) {
	var list [][]string
	for _, t := range settings() {
		if values := *t.list(&s.set); len(values) > 0 {
			list = append(list, []string{"INFOFIELD", t.name}, []string{"INFOVALUE", strings.Join(values, ",")})
		}
	}
	return append(list, []string{"INFOEND"}), nil
}

func (s *session) claimURL(p []string) ([][]string, error) {
	if _, ok := ParseURL(p[0]); ok && !strings.HasPrefix(p[0], "docker://") {
		return one("CLAIMURL-SUCCESS")
	}
	return one("CLAIMURL-FAILURE")
}

func (s *session) checkURL(p []string) ([][]string, error) {
	l, ok := ParseURL(p[0])
	if !ok {
		return nil, fmt.Errorf("%s names no blob of a registry", p[0])
	}
	size, err := s.stat(s.set.Route(l))
	if err != nil {
		return nil, err
	}
	known := "UNKNOWN"
	if size >= 0 && l.DiffID == "" {
		known = strconv.FormatInt(size, 10)
	}
	return one("CHECKURL-CONTENTS", known, strings.TrimPrefix(l.content(), "sha256:"))
}

// whereIs names the places of a key for which no URL is recorded: git-annex shows those itself. It asks no registry.
func (s *session) whereIs(p []string) ([][]string, error) {
	urls, err := s.urls(p[0])
	if err != nil {
		return nil, err
	}
	var places []string
	if len(locationsOf(urls)) == 0 {
		for _, l := range s.set.guesses(p[0]) {
			places = append(places, l.BlobURL())
		}
	}
	if len(places) == 0 {
		return one("WHEREIS-FAILURE")
	}
	return one("WHEREIS-SUCCESS", strings.Join(places, " "))
}

func (s *session) remove([]string) ([][]string, error) { return nil, errGetOnly }
