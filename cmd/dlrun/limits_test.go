package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestLimitsAreDocumented: the table in docs/reliability.md is the one of the flag.
func TestLimitsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	var f limitFlag
	f.layout, f.unpack = f.layout.Fill(), f.unpack.Fill()
	var table strings.Builder
	for _, l := range limits {
		fmt.Fprintf(&table, "| `%s` | %d | %s |\n", l.name, *l.value(&f), l.bounds)
	}
	if !strings.Contains(string(doc), "\n|---|---|---|\n"+table.String()+"\n") {
		t.Errorf("docs/reliability.md lacks this table:\n%s", table.String())
	}
}

func TestLimitFlag(t *testing.T) {
	f, rest, err := parse(t, "--limit", "entries=8M", "--limit=index-size=1.5MiB", "img", "--", "true")
	if err != nil {
		t.Fatal(err)
	}
	if f.image.limits.unpack.Entries != 8_000_000 || f.image.limits.layout.IndexSize != 3<<19 || len(rest) != 3 {
		t.Errorf("got %+v, rest %q", f.image.limits, rest)
	}
	for _, text := range []string{"entries", "entries=", "entries=0", "entries=-1", "entries=many", "entries=1X", "entries=1e99T", "none=1"} {
		if _, _, err := parse(t, "--limit", text, "img", "true"); err == nil {
			t.Errorf("--limit %s was taken", text)
		}
	}
	t.Setenv("DLRUN_LIMIT", "entries=7,bytes=3k")
	f = &runFlags{}
	c := &cobra.Command{}
	f.register(c.Flags())
	if err := fillFlags(c.Flags(), nil); err != nil || f.image.limits.unpack.Entries != 7 || f.image.limits.unpack.Bytes != 3000 {
		t.Errorf("from the variable: %+v %v", f.image.limits.unpack, err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, "1k": 1000, "1K": 1000, "2MB": 2_000_000, "2MiB": 2 << 20, "1.5G": 1_500_000_000, "3TiB": 3 << 40, "1KiB": 1024, "1g": 1e9, "20 GB": 20e9, "1gib": 1 << 30} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "k", "1kk", "1x", "-1", "NaN", "1e30", "1 k k", "Inf"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
