package layout

import (
	"strings"

	"github.com/dlrun/dlrun/internal/lazy"
)

// hinted is an error with something to type.
type hinted struct {
	error
	hint string
}

// Hint is what to type next.
func (e *hinted) Hint() string { return e.hint }

var shellSafe = lazy.Regexp(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellQuote spells a path such that a shell, and a program that takes
// options, read it as this path.
func shellQuote(path string) string {
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	if shellSafe().MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
