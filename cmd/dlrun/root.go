package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// patience is how long an interrupted dlrun may clean up; undoing takes longer where a dataset is to be as before.
const (
	patience = 1500 * time.Millisecond
	undoing  = 30 * time.Second
)

// softMemory is where the garbage of a large image or config is collected sooner: 150 MB are promised.
const softMemory = 100 << 20

// undoKey is where the context of a verb keeps the *sync.Mutex that is held while it undoes what it has done.
type undoKey struct{}

// undo calls f, which an interrupted dlrun waits for.
func undo(ctx context.Context, f func() error) error {
	if held, ok := ctx.Value(undoKey{}).(*sync.Mutex); ok {
		held.Lock()
		defer held.Unlock()
	}
	return f()
}

// execute runs the command line and returns the exit code.
func execute(args []string) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var held sync.Mutex
	ctx = context.WithValue(ctx, undoKey{}, &held)
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		sig, _ := (<-sigs).(syscall.Signal)
		cancel(&interrupted{128 + int(sig)})
		// What waits in the kernel (a fifo as --env-file, a dead file server) does not see that.
		time.Sleep(patience)
		time.AfterFunc(undoing, func() { os.Exit(128 + int(sig)) })
		held.Lock()
		os.Exit(128 + int(sig))
	}()
	debug.SetMemoryLimit(softMemory)
	root := newRoot()
	root.SetArgs(args)
	return exitCode(ctx, root.ExecuteContext(ctx))
}

const about = `dlrun runs a command in an OCI image that lies in a directory, as an ordinary user:
no daemon, no setuid helper, no subordinate ids, no conversion.

  dlrun [FLAGS] IMAGE -- CMD [ARG...]

CMD is run as it is: no shell, no ENTRYPOINT. IMAGE is an OCI layout directory or its
index.json, a directory of docker save or of skopeo (dir:), or an archive of any of these;
IMAGE:TAG and IMAGE@sha256:… pick one of several. docker://[HOST/]NAME[:TAG][@sha256:…] is
an image at a registry, docker-daemon:NAME[:TAG] one of a Docker engine. The caller's
directory, the dataset around it and what -v names are seen inside; writes to the image
vanish.`

// exitKey is the annotation that says a verb's exit status, where it is not that of most verbs.
const (
	exitKey   = "exit"
	plainExit = "0, or 125 when dlrun failed"
	runExit   = "the command's own; 128+N when signal N ended it; 125 dlrun failed;\n  126 the command cannot be executed; 127 it is not found"
)

// newRoot builds the tree of commands. The root itself is the main form.
func newRoot() *cobra.Command {
	root := newForm(form{command: literal}, "dlrun [FLAGS] IMAGE -- CMD [ARG...]", "Run a command in an image")
	root.Long = about
	root.Version = versionText()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + "\nExit status:\n  {{with .Annotations." + exitKey + "}}{{.}}{{else}}" + plainExit + "{{end}}\n")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newForm(form{command: literal}, "exec [FLAGS] IMAGE [--] CMD [ARG...]", "The main form, spelled out"),
		newForm(form{command: asImageSays, user: true}, "run [FLAGS] IMAGE [--] [ARG...]", "Run the image's ENTRYPOINT with ARGs, or with its CMD, as docker run does"),
		newForm(form{command: shell}, "shell [FLAGS] IMAGE", "Start an interactive shell of the image"),
		newAdd(),
		newLink(),
		newSave(),
		newUnpack(),
		newExport(),
		newInspect(),
		newID(),
		newVerify(),
		newCache(),
		newVersion(),
	)
	return root
}

// reserved refuses a word that names a verb, where this version has no such verb: a path of that name is
// written with a slash.
func reserved(c *cobra.Command, word string) error {
	if c.HasParent() || prelude.WantsNamespaces(word) && word != "doctor" {
		return nil
	}
	return &usageError{fmt.Sprintf("unknown command %q", word), "a path of that name is written ./" + word}
}

// flagError names the flag that was probably meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{err.Error(), ""}
	}
	name := unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		return &usageError{fmt.Sprintf("unknown flag -%s", name), "dlrun --help lists the flags; they end at IMAGE"}
	}
	if hint := ofOthers[name]; hint != "" {
		return &usageError{"unknown flag --" + name, hint}
	}
	best, distance := "", 1+len(name)/2
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if d := editDistance(name, f.Name); d < distance && !f.Hidden {
			best, distance = f.Name, d
		}
	})
	e := &usageError{text: "unknown flag --" + name}
	if best != "" {
		e.hint = "did you mean --" + best + "?"
	}
	return e
}

// ofOthers are flags of docker, podman and apptainer, and what there is in their place.
var ofOthers = map[string]string{
	"user":           "the command runs as you; dlrun run honours the image's USER, --root makes it uid 0",
	"entrypoint":     "dlrun IMAGE -- CMD goes past the ENTRYPOINT",
	"privileged":     "there are no privileges to give; --device PATH shows a device",
	"cap-add":        "there are no capabilities to give",
	"memory":         "limits are those of the shell or of the batch system (ulimit -v, srun --mem)",
	"cpus":           "affinity is the caller's (taskset, srun --cpus-per-task)",
	"shm-size":       "/dev/shm is the host's",
	"publish":        "the network is the host's: its ports are",
	"ipc":            "it is the host's, always",
	"detach":         "let the shell do it: dlrun … &",
	"name":           "containers have no names; ps shows the command",
	"fakeroot":       "--root",
	"writable":       "it is, and forgets it at the end; --persist DIR keeps it",
	"writable-tmpfs": "it is writable, and forgets it at the end; --persist DIR keeps it",
	"overlay":        "--persist DIR",
	"containall":     "--pid private; environment, HOME and /tmp are apart always",
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
