// Package lazy makes what most runs do not need when it is first used: a run starts three processes, each of which would make it
// anew.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp returns a function that compiles expression when it is first called.
func Regexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
