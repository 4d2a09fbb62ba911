package annex

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	remoteType = "dlrun"
	webUUID    = "00000000-0000-0000-0000-000000000001" // that of git-annex's web remote, everywhere
)

// Remote is the special remote of a dataset.
type Remote struct {
	Name, UUID string
}

// Remote returns the special remote, which it makes or enables unless it is there. It asks no registry.
func (d *Dataset) Remote(ctx context.Context) (Remote, error) {
	r, err := d.remote(ctx)
	if err != nil || r.UUID != "" {
		return r, err
	}
	name, known, err := d.knownRemote(ctx)
	if err != nil {
		return r, err
	}
	if known {
		_, err = d.git(ctx, "", "annex", "enableremote", name)
	} else {
		if name, err = d.freeName(ctx); err != nil {
			return r, err
		}
		_, err = d.git(ctx, "", "annex", "initremote", name, "type=external", "externaltype="+remoteType, "encryption=none", "autoenable=true")
	}
	if err != nil {
		return r, err
	}
	if r, err = d.remote(ctx); err == nil && r.UUID == "" {
		err = fmt.Errorf("git-annex has made the special remote %s, but it is not there", name)
	}
	return r, err
}

// remote is the one of this clone.
func (d *Dataset) remote(ctx context.Context) (Remote, error) {
	out, _, err := d.ask(ctx, "config", "--null", "--get-regexp", `^remote\..*\.annex-externaltype$`)
	if err != nil {
		return Remote{}, err
	}
	for entry := range strings.SplitSeq(out, "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		if value != remoteType {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(key, "remote."), ".annex-externaltype")
		uuid, ok, err := d.ask(ctx, "config", "--get", "remote."+name+".annex-uuid")
		if err != nil {
			return Remote{}, err
		}
		if ok {
			return Remote{name, uuid}, nil
		}
	}
	return Remote{}, nil
}

// knownRemote is one that another clone has made.
func (d *Dataset) knownRemote(ctx context.Context) (name string, ok bool, err error) {
	if _, err := d.git(ctx, "", "annex", "merge", "--quiet"); err != nil {
		return "", false, err
	}
	branch, found, err := d.ask(ctx, "rev-parse", "--verify", "--quiet", "refs/heads/git-annex:remote.log")
	if err != nil || !found {
		return "", false, err
	}
	out, err := d.git(ctx, "", "cat-file", "blob", branch)
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if !slices.Contains(fields, "externaltype="+remoteType) {
			continue
		}
		for _, f := range fields {
			if name, ok := strings.CutPrefix(f, "name="); ok {
				return name, true, nil
			}
		}
	}
	return "", false, nil
}

// freeName is a name that no remote of this clone has.
func (d *Dataset) freeName(ctx context.Context) (string, error) {
	out, err := d.git(ctx, "", "remote")
	if err != nil {
		return "", err
	}
	taken := strings.Fields(out)
	name := remoteType
	for n := 2; slices.Contains(taken, name); n++ {
		name = fmt.Sprintf("%s-%d", remoteType, n)
	}
	return name, nil
}

// Record says where the content of a key can be fetched.
type Record struct {
	Key string
	URL string // that the special remote reads
	Web string // that anyone can read, without a token; may be empty
}

// Record writes the records into the git-annex branch, but for those that files show to be there already, and returns how
// many were new. registerurl alone leaves the location log as it is for a special remote (git-annex 10.20230126).
func (d *Dataset) Record(ctx context.Context, r Remote, files map[string]File, records []Record) (int, error) {
	known := map[string]File{}
	for _, f := range files {
		known[f.Key] = f
	}
	fresh := map[string]bool{}
	var urls, web, present strings.Builder
	add := func(b *strings.Builder, url, uuid, key string) {
		if url == "" {
			return
		}
		f := known[key]
		if !slices.Contains(f.URLs, url) {
			fmt.Fprintf(b, "%s %s\n", key, url)
			fresh[key] = true
		}
		if !slices.Contains(f.In, uuid) {
			fmt.Fprintf(&present, "%s %s 1\n", key, uuid)
			fresh[key] = true
		}
	}
	for _, rec := range records {
		add(&urls, rec.URL, r.UUID, rec.Key)
		add(&web, rec.Web, webUUID, rec.Key)
	}
	for _, step := range []struct {
		input string
		args  []string
	}{
		{urls.String(), []string{"annex", "registerurl", "--quiet", "--batch"}},
		// Without its program the special remote claims no URL, so the web remote gets it.
		{web.String(), []string{"-c", "remote." + r.Name + ".annex-externaltype=readonly", "annex", "registerurl", "--quiet", "--batch"}},
		{present.String(), []string{"annex", "setpresentkey", "--quiet", "--batch"}},
	} {
		if step.input == "" {
			continue
		}
		if _, err := d.git(ctx, step.input, step.args...); err != nil {
			return 0, err
		}
	}
	return len(fresh), nil
}
