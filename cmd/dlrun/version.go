package main

import (
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=…); a binary made by `go install` has its module version.
var version string

// versionText is dlrun's own version and, for bug reports, those of the libraries that do the work. A start
// asks for it more than once, and the build information is parsed anew each time.
var versionText = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dlrun " + version
	}
	own := version
	if own == "" {
		own = info.Main.Version
	}
	lines := []string{"dlrun " + own, "OCI runtime spec " + specs.Version}
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/opencontainers/runc", "github.com/opencontainers/umoci", "github.com/google/go-containerregistry":
			lines = append(lines, d.Path[strings.LastIndex(d.Path, "/")+1:]+" "+d.Version)
		}
	}
	return strings.Join(append(lines, info.GoVersion), "\n")
})

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), versionText())
			return err
		},
	}
}
