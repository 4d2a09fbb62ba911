// Command as runs a command as one of the test users: as dlrun-nosub CMD [ARG...].
// It makes the user when root calls it the first time.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/dlrun/dlrun/test/internal/users"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: as USER CMD [ARG...]")
		os.Exit(2)
	}
	u, err := users.Get(os.Args[1])
	if err == nil {
		cmd := u.Command(context.Background(), os.Args[2], os.Args[3:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = cmd.Run()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "as:", err)
		os.Exit(1)
	}
}
