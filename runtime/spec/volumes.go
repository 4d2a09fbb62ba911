package spec

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// volume is a mount that the caller asks for.
type volume struct {
	flag        string   // the flag and its argument, for errors
	source      string   // absolute host path, "" for a tmpfs
	destination string   // absolute path inside
	readOnly    bool     // for a bind
	device      bool     // of --device
	options     []string // of a tmpfs
}

// parseVolumes reads --workdir-as, --tmpfs, -v, --mount and --device, in this order.
// Relative sources are below cwd.
func parseVolumes(o Options, cwd string) ([]volume, error) {
	var list []volume
	if o.WorkdirAs != "" {
		v := volume{flag: "--workdir-as " + o.WorkdirAs, source: cwd, destination: o.WorkdirAs}
		if err := v.checkDestination(); err != nil {
			return nil, fmt.Errorf("%s: %w", v.flag, err)
		}
		list = append(list, v)
	}
	for _, flag := range []struct {
		name  string
		args  []string
		parse func(*volume, string, string) error
	}{
		{"--tmpfs", o.Tmpfs, parseTmpfs},
		{"-v", o.Volumes, parseVolume},
		{"--mount", o.Mounts, parseMount},
		{"--device", o.Devices, parseDevice},
	} {
		for _, arg := range flag.args {
			v := volume{flag: flag.name + " " + arg}
			err := flag.parse(&v, arg, cwd)
			if err == nil {
				err = v.checkDestination()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.flag, err)
			}
			list = append(list, v)
		}
	}
	return list, nil
}

// parseVolume reads SRC[:DST[:OPTIONS]].
func parseVolume(v *volume, arg, cwd string) error {
	fields := strings.Split(arg, ":")
	switch {
	case len(fields) > 3:
		return &hinted{"more than two colons", "--mount type=bind,src=SRC,dst=DST for paths with colons"}
	case fields[0] == "":
		return errors.New("no source")
	}
	v.source = absolute(fields[0], cwd)
	v.destination = v.source
	if len(fields) > 1 {
		v.destination = fields[1]
	}
	if len(fields) < 3 {
		return nil
	}
	for option := range strings.SplitSeq(fields[2], ",") {
		switch option {
		case "ro":
			v.readOnly = true
		case "rw":
			v.readOnly = false
		case "z", "Z": // SELinux labels: nothing to do, for files are not relabelled
		default:
			return fmt.Errorf("unknown option %q, neither ro nor rw", option)
		}
	}
	return nil
}

// parseMount reads KEY=VALUE fields as docker does, quoted like CSV.
func parseMount(v *volume, arg, cwd string) error {
	fields, err := csv.NewReader(strings.NewReader(arg)).Read()
	if err != nil {
		return fmt.Errorf("fields: %w", err)
	}
	kind := "bind"
	for _, field := range fields {
		key, value, given := strings.Cut(field, "=")
		switch key {
		case "type":
			kind = value
		case "src", "source":
			if value == "" {
				return fmt.Errorf("empty %s", key)
			}
			v.source = absolute(value, cwd)
		case "dst", "destination", "target":
			v.destination = value
		case "ro", "readonly":
			v.readOnly = true
			if given {
				if v.readOnly, err = strconv.ParseBool(value); err != nil {
					return fmt.Errorf("%s is neither true nor false: %q", key, value)
				}
			}
		default:
			return fmt.Errorf("unknown key %q, none of type, src, dst, ro", key)
		}
	}
	switch {
	case kind == "bind" && v.source == "":
		return errors.New("no src")
	case kind == "tmpfs" && v.source != "":
		return errors.New("a tmpfs has no src")
	case kind == "tmpfs" && v.readOnly:
		v.options = []string{"ro"}
	case kind != "bind" && kind != "tmpfs":
		return fmt.Errorf("unknown type %q, neither bind nor tmpfs", kind)
	}
	return nil
}

// parseTmpfs reads DST[:size=N,mode=M].
func parseTmpfs(v *volume, arg, _ string) error {
	var options string
	v.destination, options, _ = strings.Cut(arg, ":")
	if options == "" {
		return nil
	}
	valid := regexp.MustCompile(`^(size=[0-9]+[kmgKMG%]?|mode=[0-7]{1,4})$`)
	for option := range strings.SplitSeq(options, ",") {
		if !valid.MatchString(option) {
			return fmt.Errorf("unknown option %q, neither size=N[k|m|g|%%] nor mode=OCTAL", option)
		}
		v.options = append(v.options, option)
	}
	return nil
}

func parseDevice(v *volume, arg, _ string) error {
	v.source, v.destination, v.device = path.Clean(arg), path.Clean(arg), true
	if !within(v.source, "/dev") || v.source == "/dev" {
		return errors.New("not a path below /dev")
	}
	return nil
}

func (v *volume) checkDestination() error {
	switch {
	case v.destination == "":
		return errors.New("no destination")
	case !path.IsAbs(v.destination):
		return &hinted{fmt.Sprintf("destination %q is not an absolute path", v.destination), "-v SRC:DST[:ro], with DST from the root on"}
	case slices.Contains(strings.Split(v.destination, "/"), ".."):
		return fmt.Errorf("destination %q holds `..`", v.destination)
	case strings.ContainsRune(v.destination+v.source, 0):
		return errors.New("a path holds a zero byte")
	}
	v.destination = path.Clean(v.destination)
	if v.destination == "/" {
		return errors.New("the root itself cannot be mounted on")
	}
	// libcontainer refuses it too: a false /proc would mislead whoever sets the run up.
	if within(v.destination, "/proc") && v.source != v.destination {
		return errors.New("nothing can be mounted in /proc")
	}
	return nil
}

// absolute is p from the root on, cwd when it is empty.
func absolute(p, cwd string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(cwd, p)
}

// within reports whether p is dir or lies below it; both are clean and absolute.
func within(p, dir string) bool {
	// Without a new string: a superdataset of thousands makes thousands of mounts, each compared with all before it.
	dir = strings.TrimSuffix(dir, "/")
	return strings.HasPrefix(p, dir) && (len(p) > len(dir) && p[len(dir)] == '/' || len(p) == len(dir) && dir != "")
}
