package main

import (
	"testing"
	"time"
)

func TestBarText(t *testing.T) {
	for _, c := range []struct {
		present, total, fetched int64
		took                    time.Duration
		want                    string
	}{
		{0, 1e9, 0, 0, "[....................] 0% of 1.0 GB"},
		{5e8, 1e9, 5e8, 10 * time.Second, "[##########..........] 50% of 1.0 GB, 50.0 MB/s, 10s left"},
		{5e8, 1e9, 0, 10 * time.Second, "[##########..........] 50% of 1.0 GB"},
		{9e8, 1e9, 1e8, 100 * time.Second, "[##################..] 90% of 1.0 GB, 1.0 MB/s, 1m40s left"},
		{1e9, 1e9, 1e9, time.Hour, "[####################] 100% of 1.0 GB, 277.8 kB/s, 0s left"},
		{1, 3, 1, 2 * time.Second, "[######..............] 33% of 3 B, 0 B/s, 4s left"},
	} {
		got := barText(c.present, c.total, c.fetched, c.took)
		if got != c.want || len(got) > 72 {
			t.Errorf("%d of %d: %q, want %q", c.present, c.total, got, c.want)
		}
	}
}
