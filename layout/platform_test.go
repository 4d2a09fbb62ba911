package layout

import "testing"

func TestPlatformOf(t *testing.T) {
	for _, c := range []struct{ goarch, machine, want string }{
		{"amd64", "x86_64", "linux/amd64"},
		{"arm64", "aarch64", "linux/arm64/v8"},
		{"arm", "armv7l", "linux/arm/v7"},
		{"arm", "armv6l", "linux/arm/v6"},
		{"arm", "armv5tel", "linux/arm/v5"},
		{"arm", "armv8l", "linux/arm/v7"},
		{"arm", "aarch64", "linux/arm/v7"},
		{"arm", "", "linux/arm/v7"},
		{"riscv64", "riscv64", "linux/riscv64"},
	} {
		if got := platformOf(c.goarch, c.machine).String(); got != c.want {
			t.Errorf("%s on %s: %s, want %s", c.goarch, c.machine, got, c.want)
		}
	}
	if got, _ := newQuery(Options{}); got.platform.Architecture == "" || got.platform.OS != "linux" {
		t.Errorf("this machine is %s", got.platform)
	}
}
