package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/unpack"
)

// limitFlag is --limit NAME=N, as often as wanted.
type limitFlag struct {
	layout layout.Limits
	unpack unpack.Limits
	text   []string
}

// limit is one of those that --limit raises; docs/reliability.md has the same table.
type limit struct {
	name, bounds string
	value        func(*limitFlag) *int64
}

var limits = []limit{
	{"bytes", "bytes that the files of a layer may have whatever its size, holes included", func(f *limitFlag) *int64 { return &f.unpack.Bytes }},
	{"inflate", "bytes that its blob may inflate to whatever its size", func(f *limitFlag) *int64 { return &f.unpack.Inflate }},
	{"ratio", "bytes of either beyond that per byte of its blob", func(f *limitFlag) *int64 { return &f.unpack.Ratio }},
	{"reserve", "bytes of the file system that stay free", func(f *limitFlag) *int64 { return &f.unpack.Reserve }},
	{"entries", "entries of a layer", func(f *limitFlag) *int64 { return &f.unpack.Entries }},
	{"density", "entries beyond 50 000 per KiB of its blob", func(f *limitFlag) *int64 { return &f.unpack.Density }},
	{"path", "bytes of a name or of a link's target", func(f *limitFlag) *int64 { return &f.unpack.Path }},
	{"depth", "directories below each other", func(f *limitFlag) *int64 { return &f.unpack.Depth }},
	{"memory", "bytes of memory for the directories of the layers being unpacked", func(f *limitFlag) *int64 { return &f.unpack.Memory }},
	{"layers", "layers of an image", func(f *limitFlag) *int64 { return &f.unpack.Layers }},
	{"index-size", "bytes of index.json and of a nested index", func(f *limitFlag) *int64 { return &f.layout.IndexSize }},
	{"manifest-size", "bytes of a manifest", func(f *limitFlag) *int64 { return &f.layout.ManifestSize }},
	{"config-size", "bytes of a config", func(f *limitFlag) *int64 { return &f.layout.ConfigSize }},
	{"index-depth", "indexes within indexes", func(f *limitFlag) *int64 { return &f.layout.IndexDepth }},
	{"indexes", "nested indexes read to find one image", func(f *limitFlag) *int64 { return &f.layout.Indexes }},
	{"index-entries", "entries read to find one image, of all indexes together", func(f *limitFlag) *int64 { return &f.layout.IndexEntries }},
}

// Type is what the help calls the value.
func (*limitFlag) Type() string { return "NAME=N" }

func (f *limitFlag) String() string { return strings.Join(f.text, ",") }

// Set takes one NAME=N.
func (f *limitFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("want NAME=N")
	}
	n, err := parseSize(value)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no number above 0", value)
	}
	for _, l := range limits {
		if l.name == name {
			*l.value(f) = n
			f.text = append(f.text, text)
			return nil
		}
	}
	var names []string
	for _, l := range limits {
		names = append(names, l.name)
	}
	return fmt.Errorf("no limit %q; there are %s", name, strings.Join(names, ", "))
}

// Append, Replace and GetSlice tell pflag that the flag may be repeated, and a variable hold several values.
func (f *limitFlag) Append(text string) error { return f.Set(text) }

// Replace takes the values of a variable.
func (f *limitFlag) Replace(list []string) error {
	for _, text := range list {
		if err := f.Set(text); err != nil {
			return err
		}
	}
	return nil
}

// GetSlice returns what was set.
func (f *limitFlag) GetSlice() []string { return f.text }

// parseSize reads a number with a unit or without: 500M and 500MB are 500 million, 500MiB is 500<<20.
func parseSize(text string) (int64, error) {
	text = strings.ReplaceAll(strings.ToUpper(text), " ", "")
	digits := strings.TrimRight(text, "KMGTIB")
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || number < 0 || math.IsNaN(number) {
		return 0, fmt.Errorf("%q is no size", text)
	}
	base := 1000.0
	unit := strings.TrimSuffix(text[len(digits):], "B")
	if short, ok := strings.CutSuffix(unit, "I"); ok {
		base, unit = 1024, short
	}
	power := strings.Index("KMGT", unit) + 1
	if unit == "" {
		power = 0
	} else if len(unit) != 1 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	if number *= math.Pow(base, float64(power)); number >= 1<<62 {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return int64(number), nil
}
