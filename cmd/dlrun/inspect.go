package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/dlrun/dlrun/layout"
)

// newInspect is the verb that tells what an image is. It opens no layer, so it works in a clone without any.
func newInspect() *cobra.Command {
	var (
		look   lookFlags
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "inspect [FLAGS] IMAGE",
		Short: "Tell what an image is: digests, platform, config, layers, and which of them are here",
		Args:  cobra.ExactArgs(1),

		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			img, done, err := look.open(c, args[0], false)
			if err != nil {
				return err
			}
			defer done()
			d, err := describe(img)
			if err != nil {
				return err
			}
			if !asJSON {
				return d.print(c.OutOrStdout())
			}
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(d)
		},
	}
	look.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// description is what inspect tells of an image; sizes are in bytes.
type description struct {
	Image       string            `json:"image"` // where it lies
	Form        string            `json:"form"`
	Tag         string            `json:"tag,omitempty"`
	Names       []string          `json:"names,omitempty"`
	ID          string            `json:"id"`
	Digest      string            `json:"digest"`
	MadeUp      bool              `json:"manifestMadeUp,omitempty"` // the form stores no manifest
	MediaType   string            `json:"mediaType"`
	Platform    string            `json:"platform"`
	Created     *time.Time        `json:"created,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Config      v1.Config         `json:"config"`
	Size        int64             `json:"size"`    // of manifest, config and layers
	Missing     int64             `json:"missing"` // of these, what is not here
	Manifest    part              `json:"manifest"`
	ConfigBlob  part              `json:"configBlob"`
	Layers      []part            `json:"layers"`
}

// part is a blob of the image.
type part struct {
	Digest    string `json:"digest"`
	DiffID    string `json:"diffID,omitempty"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	Present   bool   `json:"present"`
	Path      string `json:"path,omitempty"`
	AnnexKey  string `json:"annexKey,omitempty"`
	Problem   string `json:"problem,omitempty"` // why a blob that is not missing cannot be read
}

func describe(img *layout.Image) (*description, error) {
	id, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	d := &description{
		Image: img.Dir(), Form: img.Form(), Tag: img.Tag(), Names: img.Names(), ID: id.String(),
		Platform:    v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}.String(),
		Annotations: img.Annotations(), Config: config.Config, Layers: []part{},
	}
	if !config.Created.IsZero() {
		d.Created = &config.Created.Time
	}
	once := map[string]bool{}
	for _, b := range img.Blobs() {
		p := part{Digest: b.Digest.String(), MediaType: string(b.MediaType), Size: b.Size, Present: b.Err == nil, Path: b.Path, AnnexKey: b.Key}
		if b.Err != nil && !b.Missing() {
			p.Present, p.Problem = true, b.Err.Error()
		}
		if !once[p.Digest] {
			once[p.Digest] = true
			d.Size += b.Size
			if !p.Present {
				d.Missing += b.Size
			}
		}
		switch b.Role {
		case "manifest":
			d.Digest, d.MediaType, d.MadeUp, d.Manifest = p.Digest, p.MediaType, b.MadeUp, p
		case "config":
			d.ConfigBlob = p
		default:
			p.DiffID = b.DiffID.String()
			d.Layers = append(d.Layers, p)
		}
	}
	return d, nil
}

// print writes what people want to know, a line a fact.
func (d *description) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(key string, values ...string) {
		for _, v := range values {
			if v != "" {
				fmt.Fprintf(t, "%s\t%s\n", key, printable(v))
				key = ""
			}
		}
	}
	words := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		b, _ := json.Marshal(list) // strings can be marshalled
		return string(b)
	}
	pairs := func(m map[string]string) (list []string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			list = append(list, k+"="+m[k])
		}
		return list
	}
	line("image", d.Image)
	line("form", d.Form)
	line("tag", d.Tag)
	line("name", d.Names...)
	line("id", d.ID)
	if d.MadeUp {
		line("digest", d.Digest+" (made up: this form has no manifest)")
	} else {
		line("digest", d.Digest)
	}
	line("type", d.MediaType)
	line("platform", d.Platform)
	if d.Created != nil {
		line("created", d.Created.Format(time.RFC3339))
	}
	line("annotation", pairs(d.Annotations)...)
	line("entrypoint", words(d.Config.Entrypoint))
	line("cmd", words(d.Config.Cmd))
	line("env", d.Config.Env...)
	line("workdir", d.Config.WorkingDir)
	line("user", d.Config.User)
	line("label", pairs(d.Config.Labels)...)
	size := bytesText(d.Size)
	if d.Missing > 0 {
		size += fmt.Sprintf(", of which %s are not here", bytesText(d.Missing))
	}
	line("size", size)
	var layers []string
	for _, l := range d.Layers {
		text := l.Digest + "  " + bytesText(l.Size)
		switch {
		case l.Problem != "":
			text += "  " + l.Problem
		case !l.Present && l.AnnexKey != "":
			text += "  not here, annex key " + l.AnnexKey
		case !l.Present:
			text += "  missing"
		}
		layers = append(layers, text)
	}
	line("layers", layers...)
	if len(layers) == 0 {
		line("layers", "none")
	}
	return t.Flush()
}
