// Command dlrun runs a command in an OCI image that lies in a directory, as an ordinary user.
//
// This is the corridor of the house: flags, the four calls of a run (run.go), messages (message.go) and the exit
// code. Nothing else prints, reads flags or exits.
package main

import (
	"os"

	"github.com/dlrun/dlrun/runtime"
	"github.com/dlrun/dlrun/runtime/prelude"
)

func main() {
	runtime.Init()
	if prelude.Self() == prelude.Inside {
		code, err := runtime.Serve(func(text string) { note(false, "%s", text) })
		if err != nil {
			tell(err)
		}
		os.Exit(code)
	}
	os.Exit(execute(os.Args[1:]))
}
