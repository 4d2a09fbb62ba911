// Command dlrun runs a command in an OCI image that lies in a directory, as an ordinary user.
//
// This is the corridor of the house: flags, the four calls of a run (run.go), messages (message.go) and the exit
// code. Nothing else prints, reads flags or exits.
package main

import (
	"os"
	"path/filepath"

	"github.com/dlrun/dlrun/runtime"
	"github.com/dlrun/dlrun/runtime/prelude"
)

func main() {
	runtime.Init()
	if filepath.Base(os.Args[0]) == remoteProgram {
		os.Exit(serveRemote())
	}
	if prelude.Self() == prelude.Inside {
		code, err := runtime.Serve(func(text string) { note(false, "%s", text) })
		if err != nil {
			tell(err)
		}
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[1] == prelude.TidyWord {
		if err := runtime.Tidy(); err != nil {
			tell(err)
			os.Exit(codeFailed)
		}
		return
	}
	os.Exit(execute(os.Args[1:]))
}
