package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// What dlrun says goes to stderr, one line a message: `dlrun: ` and a lower-case sentence without a period. A
// line `hint: ` follows where there is something to type. stdout is the command's, and that of verbs whose answer is text.

// codeFailed is the exit code of dlrun's own failures; 126 and 127 are the command's that cannot be run.
const codeFailed = 125

// tell prints err and its hint.
func tell(err error) {
	for i, line := range strings.Split(printable(strings.TrimSpace(err.Error())), "\n") {
		if i == 0 {
			fmt.Fprintf(os.Stderr, "dlrun: %s\n", line)
		} else {
			fmt.Fprintf(os.Stderr, "dlrun:   %s\n", line)
		}
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", strings.ReplaceAll(printable(hint), "\n", string(unicode.ReplacementChar)))
	}
}

// hintOf is what to type after err, or empty.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// printable keeps what an image or a file name holds from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !strconv.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// note prints something that is worth knowing and stops nothing.
func note(quiet bool, format string, args ...any) {
	if !quiet {
		fmt.Fprintf(os.Stderr, "dlrun: %s\n", strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n", "\ndlrun:   "))
	}
}

// usageError is a mistake on the command line, with what was probably meant.
type usageError struct{ text, hint string }

func (e *usageError) Error() string { return e.text }
func (e *usageError) Hint() string  { return e.hint }

// interrupted is the cause of a context that a signal has ended.
type interrupted struct{ code int }

func (e *interrupted) Error() string { return fmt.Sprintf("interrupted by signal %d", e.code-128) }

// exitCode tells err to the user and returns the code for it.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	var i *interrupted
	if errors.As(context.Cause(ctx), &i) {
		tell(i)
		return i.code
	}
	tell(err)
	var unpinned *unpinnedError
	var found *foundError
	switch {
	case errors.As(err, &unpinned):
		return codeUnpinned
	case errors.As(err, &found):
		return codeFound
	}
	return codeFailed
}
