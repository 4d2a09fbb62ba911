package spec

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// vars is an environment.
type vars map[string]string

// environment is what the command gets; later steps win. HOME, PATH and PWD are
// always set: without PATH no command is found, and PWD keeps the caller's spelling
// of cwd.
func environment(image []string, workdir string, host Host, o Options) (vars, error) {
	if err := checkGlobs(o); err != nil {
		return nil, err
	}
	outside, env := parseVars(host.Env), vars{}
	if o.EnvHost {
		maps.Copy(env, outside)
		// A token for the Slurm controller is worth more than the job.
		delete(env, "SLURM_JWT")
	}
	for _, entry := range image {
		if strings.ContainsRune(entry, 0) { // what follows it would be further variables, ahead of all others
			return nil, fmt.Errorf("the image's environment entry %q holds a zero byte", entry)
		}
	}
	maps.Copy(env, parseVars(image))
	if o.Home != nil {
		env["HOME"] = homeDir(host)
	}
	for k, v := range outside {
		if kept(k, o) {
			env[k] = v
		}
	}
	for _, f := range o.EnvFiles {
		for i, line := range bytes.Split(bytes.TrimPrefix(f.Data, []byte("\xef\xbb\xbf")), []byte("\n")) {
			entry := strings.TrimLeft(strings.TrimSuffix(string(line), "\r"), " \t")
			if entry == "" || entry[0] == '#' {
				continue
			}
			if err := env.set(entry, outside); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", f.Name, i+1, err)
			}
		}
	}
	for _, entry := range o.Env {
		if err := env.set(entry, outside); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(env, func(k, _ string) bool { return matches(o.UnsetEnv, k) })
	if env["HOME"] == "" {
		env["HOME"] = homeDir(host)
	}
	if env["PATH"] == "" {
		env["PATH"] = defaultPath
	}
	env["PWD"] = workdir
	return env, nil
}

// parseVars reads K=V entries. An entry without `=` is ignored: podman takes its
// value from the host, and so lets an image read the caller's environment.
func parseVars(entries []string) vars {
	env := vars{}
	for _, e := range entries {
		if k, v, ok := strings.Cut(e, "="); ok && k != "" {
			env[k] = v
		}
	}
	return env
}

// set applies one argument of -e, K=V or K.
func (env vars) set(entry string, outside vars) error {
	k, v, given := strings.Cut(entry, "=")
	if k == "" || strings.ContainsAny(k, " \t") {
		return fmt.Errorf("environment entry %q has no valid variable name", entry)
	}
	if strings.ContainsRune(entry, 0) {
		return fmt.Errorf("environment entry %q holds a zero byte", entry)
	}
	if given {
		env[k] = v
	} else if v, ok := outside[k]; ok {
		env[k] = v
	}
	return nil
}

func (env vars) list() []string {
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// matches reports whether k matches one of the globs, which checkGlobs has seen.
func matches(globs []string, k string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		match, _ := path.Match(glob, k)
		return match
	})
}

func checkGlobs(o Options) error {
	for _, glob := range slices.Concat(o.KeepEnv, o.UnsetEnv) {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("%q is not a valid pattern for variables", glob)
		}
	}
	return nil
}
