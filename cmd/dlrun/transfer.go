package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dlrun/dlrun/layout"
)

// transfer tells how far the layers of an image have come: on a terminal a bar with bytes, rate and the time that is
// left, else a line a layer.
type transfer struct {
	quiet, terminal, shown bool
	begun, last            time.Time
	had, fetched           int64 // bytes that came from files, and from elsewhere
}

func newTransfer(quiet bool) *transfer {
	fi, err := os.Stderr.Stat()
	return &transfer{quiet: quiet, terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0, begun: time.Now()}
}

// barWidth is such that the line fits into 80 columns.
const barWidth = 20

func (t *transfer) show(at layout.SaveProgress) {
	if at.Layer != nil && at.From != "" {
		t.had += at.Layer.Size
	}
	t.fetched = at.Present - t.had
	now := time.Now()
	switch {
	case t.quiet || at.Total == 0:
	case t.terminal && now.Sub(t.last) > 100*time.Millisecond:
		t.last, t.shown = now, true
		fmt.Fprintf(os.Stderr, "\r\033[Kdlrun: %s", barText(at.Present, at.Total, t.fetched, now.Sub(t.begun)))
	case !t.terminal && at.Layer != nil:
		how := "fetched"
		if at.From != "" {
			how = "taken from " + printable(at.From)
		}
		fmt.Fprintf(os.Stderr, "dlrun: layer %d of %d, %.19s, %s: %s\n", at.Done, at.Layers, at.Layer.Digest, bytesText(at.Layer.Size), how)
	}
}

// barText is the bar: fetched bytes, of those present, took a while.
func barText(present, total, fetched int64, took time.Duration) string {
	full := int(barWidth * present / total)
	s := fmt.Sprintf("[%s%s] %d%% of %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*present/total, bytesText(total))
	rate := float64(fetched) / took.Seconds()
	if fetched <= 0 || took < time.Second {
		return s
	}
	left := time.Duration(float64(total-present) / rate * float64(time.Second)).Round(time.Second)
	return s + fmt.Sprintf(", %s/s, %v left", bytesText(int64(rate)), left)
}

func (t *transfer) done() {
	if t.terminal && t.shown {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
