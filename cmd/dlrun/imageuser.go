package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/dlrun/dlrun/runtime/spec"
	"github.com/dlrun/dlrun/unpack"
)

// honourUser makes the command be who the USER of the image's config says. Any id can be mapped to the caller's; uid 0 is
// that of --root.
func honourUser(o *spec.Options, user string, root *unpack.Root) error {
	ids, err := imageUser(user, root)
	switch {
	case err != nil:
		return err
	case ids.UID == 0:
		o.Root = true
	case ids.UID != os.Getuid():
		o.As = ids
	case ids.GID != os.Getgid() && strings.Contains(user, ":"):
		return fmt.Errorf("it is you, with the group %d that you are not in", ids.GID)
	}
	return nil
}

// imageUser finds the ids that the USER of an image's config means, UID|NAME[:GID|GROUP], as docker does: names are
// those of the image, and without a group it is that of the user, else 0.
func imageUser(user string, root *unpack.Root) (*spec.IDs, error) {
	name, group, hasGroup := strings.Cut(user, ":")
	passwd, err := accountOf(root, "passwd", name)
	if err != nil {
		return nil, err
	}
	ids := &spec.IDs{UID: passwd.id, GID: passwd.group}
	if !hasGroup || group == "" {
		return ids, nil
	}
	found, err := accountOf(root, "group", group)
	ids.GID = found.id
	return ids, err
}

// imageAccount is a line of the image's passwd or group file. Only users have a group.
type imageAccount struct{ id, group int }

// accountOf finds a name, or a number, in /etc/passwd or /etc/group of the image. A number needs no line there.
func accountOf(root *unpack.Root, file, name string) (imageAccount, error) {
	number, notNumber := id(name)
	data, err := root.ReadFile("etc/" + file)
	if err != nil && notNumber != nil {
		return imageAccount{}, fmt.Errorf("%s is not found: %w", name, err)
	}
	for line := range bytes.Lines(data) {
		fields := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(fields) < 3 {
			continue
		}
		n, err := id(fields[2])
		if err != nil || fields[0] != name && (notNumber != nil || n != number) {
			continue
		}
		a := imageAccount{id: n}
		if len(fields) > 3 {
			a.group, _ = id(fields[3])
		}
		return a, nil
	}
	if notNumber != nil {
		return imageAccount{}, fmt.Errorf("%s is not in the image's /etc/%s", name, file)
	}
	return imageAccount{id: number}, nil
}

// id reads a user or group id. The last one of 32 bits means none.
func id(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, errors.New("not an id")
	}
	return int(n), nil
}
