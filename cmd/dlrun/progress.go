package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/unpack"
)

// progress tells how far an image is on its way into the store: a line that is written over on a terminal, else one line once
// it takes long. It may be told from several sides at once.
type progress struct {
	quiet, terminal bool
	image           string

	mu          sync.Mutex
	shown       bool
	begun, last time.Time
}

func newProgress(quiet bool, image string) *progress {
	fi, err := os.Stderr.Stat()
	return &progress{quiet: quiet, image: image, terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

// slow is when an unpack is worth a word.
const slow = 2 * time.Second

func (p *progress) show(at unpack.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.begun.IsZero() {
		p.begun = now
	}
	if p.quiet || at.Total == 0 {
		return
	}
	switch {
	case p.terminal:
		p.line(now, "unpacking %s: %d%% of %s", p.image, 100*at.Read/at.Total, bytesText(at.Total))
	case !p.terminal && !p.shown && now.Sub(p.begun) > slow:
		fmt.Fprintf(os.Stderr, "dlrun: unpacking %s (%s, once)\n", p.image, bytesText(at.Total))
		p.shown = true
	}
}

// get is what git-annex tells of a blob that it gets.
func (p *progress) get(at annex.GetProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet || !p.terminal || at.Total == 0 {
		return
	}
	p.line(time.Now(), "getting %s from %s: %d%% of %s", p.image, at.From, 100*at.Read/at.Total, bytesText(at.Total))
}

// line writes over the last one, now and then.
func (p *progress) line(now time.Time, format string, args ...any) {
	if now.Sub(p.last) > 100*time.Millisecond {
		fmt.Fprint(os.Stderr, "\r\033[Kdlrun: "+printable(fmt.Sprintf(format, args...)))
		p.last, p.shown = now, true
	}
}

// done takes the line away.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.shown {
		fmt.Fprint(os.Stderr, "\r\033[K")
		p.shown = false
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
