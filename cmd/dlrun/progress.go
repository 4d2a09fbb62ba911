package main

import (
	"fmt"
	"os"
	"time"

	"github.com/dlrun/dlrun/unpack"
)

// progress tells how far an unpack has come: a line that is written over on a terminal, else one line once it
// takes long.
type progress struct {
	quiet, terminal, shown bool
	image                  string
	begun, last            time.Time
}

func newProgress(quiet bool, image string) *progress {
	fi, err := os.Stderr.Stat()
	return &progress{quiet: quiet, image: image, terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

// slow is when an unpack is worth a word.
const slow = 2 * time.Second

func (p *progress) show(at unpack.Progress) {
	now := time.Now()
	if p.begun.IsZero() {
		p.begun = now
	}
	if p.quiet || at.Total == 0 {
		return
	}
	switch {
	case p.terminal && now.Sub(p.last) > 100*time.Millisecond:
		fmt.Fprintf(os.Stderr, "\r\033[Kdlrun: unpacking %s: %d%% of %s", p.image, 100*at.Read/at.Total, bytesText(at.Total))
		p.last, p.shown = now, true
	case !p.terminal && !p.shown && now.Sub(p.begun) > slow:
		fmt.Fprintf(os.Stderr, "dlrun: unpacking %s (%s, once)\n", p.image, bytesText(at.Total))
		p.shown = true
	}
}

func (p *progress) done() {
	if p.terminal && p.shown {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}

func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, u := float64(n), 0
	for f >= 1000 && u < len(units)-1 {
		f, u = f/1000, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
