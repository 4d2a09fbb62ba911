// Command bench prints, in one run, how dlrun stands beside its peers: the start
// of a command in a small image that is already unpacked, that of the ranks of a job
// step, the unpacking of a large image, and the fetching of one from a registry. All
// as one ordinary user, side by side, as ratios of paired rounds.
// It exits non-zero when dlrun misses its goals.
//
// Fairness: crun refuses hybrid cgroups, so on such a host everything runs in a
// mount namespace with pure cgroup v1. podman and skopeo use the overlay driver.
// Every unpacking has a directory of its own, and nothing is removed before the
// end: ext4 makes new files slow where many have just been removed. For root, all
// of it is on a fresh file system in a file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/users"
)

// The goals of dlrun, as ratios to a peer.
const (
	startGoal, startPeer   = 2.0, "crun"
	unpackGoal, unpackPeer = 0.5, "podman"
	saveGoal, savePeer     = 0.8, "skopeo"
	saveMB                 = 100 // of anonymous memory
)

func main() {
	starts := flag.Int("starts", 20, "rounds of the start table; 0 leaves it out")
	ranks := flag.Int("ranks", 20, "rounds of the table of a step's ranks; 0 leaves it out")
	unpacks := flag.Int("unpacks", 2, "rounds of the unpack table; 0 leaves it out")
	saves := flag.Int("saves", 3, "rounds of the fetch table; 0 leaves it out")
	flag.Parse()
	var err error
	if inside := os.Getenv("DLRUN_BENCH_DIR"); inside != "" {
		err = measure(inside, *starts, *ranks, *unpacks, *saves)
	} else {
		err = prepare(*unpacks > 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// prepare makes the images and a directory for the user, and runs this program
// again as the user, where crun agrees to run.
func prepare(large bool) (err error) {
	ctx := context.Background()
	u, err := users.Get(users.Sub)
	if err != nil {
		return err
	}
	// A short name: podman allows a runroot of 50 characters.
	base, err := os.MkdirTemp("/var/tmp", "b-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(base)) }()
	dir := base
	if os.Geteuid() == 0 {
		if dir, err = freshDisk(base); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Lchown(dir, u.UID, u.GID)); err != nil {
		return err
	}
	env := append(u.Env(), "DLRUN_BENCH_DIR="+dir, "STORAGE_DRIVER=overlay", "XDG_RUNTIME_DIR="+dir, "XDG_DATA_HOME="+dir,
		fmt.Sprintf("TEST_UID=%d", u.UID), fmt.Sprintf("TEST_GID=%d", u.GID))
	images := []string{"tiny"}
	if large {
		images = append(images, "debian")
	}
	for _, name := range images {
		made, err := image.Get(ctx, name)
		if err != nil {
			return err
		}
		env = append(env, strings.ToUpper(name)+"="+made)
	}
	for from, to := range map[string]string{"bin/dlrun": "dlrun", "/proc/self/exe": "bench"} {
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("%w (make build)", err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o755); err != nil {
			return err
		}
	}
	cmd := u.Command(ctx, filepath.Join(dir, "bench"), os.Args[1:]...)
	if os.Geteuid() == 0 && hybrid() {
		cmd = exec.CommandContext(ctx, "test/testdata/bin/cgroupview", append([]string{"v1"}, cmd.Args...)...)
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("as %s: %w", u.Name, err)
	}
	return nil
}

// freshDisk mounts a new file system, which lies in a sparse file of dir.
func freshDisk(dir string) (string, error) {
	file, at := filepath.Join(dir, "disk"), filepath.Join(dir, "d")
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	err = errors.Join(f.Truncate(40<<30), f.Close(), os.Chmod(dir, 0o755), os.Mkdir(at, 0o755), steps(
		[]string{"mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", file},
		[]string{"mount", "-o", "loop", file, at},
	))
	return at, err
}

func hybrid() bool {
	var st unix.Statfs_t
	err := unix.Statfs("/sys/fs/cgroup/unified", &st)
	return err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// remove also removes what belongs to subordinate ids.
func remove(dir string) error {
	if os.Geteuid() != 0 {
		exec.Command("podman", "unshare", "rm", "-rf", dir).Run()
	}
	if out, err := exec.Command("sh", "-c", `chmod -R u+rwX "$1"; rm -rf "$1"`, "sh", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("remove %s: %w: %s", dir, err, out)
	}
	return nil
}

// A contender is one way of doing what is measured. Its command may depend on the
// number of the round, and on a directory that is new for each.
type contender struct {
	name    string
	command func(round int, fresh string) []string
}

func measure(dir string, starts, ranks, unpacks, saves int) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	// podman leaves a process behind that keeps the file system busy.
	defer exec.Command("podman", "system", "migrate").Run()
	var missed []error
	if starts+ranks > 0 {
		list, err := startContenders(dir)
		if err != nil {
			return err
		}
		if ranks > 0 {
			missed = append(missed, measureRanks(dir, ranks))
		}
		if starts > 0 {
			missed = append(missed, compare("start of true, warm", list, 1, starts, startPeer, startGoal))
		}
	}
	if unpacks > 0 {
		missed = append(missed, compare("first run or pull of Debian, 7 layers", unpackContenders(), 0, unpacks, unpackPeer, unpackGoal))
	}
	if saves > 0 {
		missed = append(missed, compareSaves(dir, saves))
	}
	return errors.Join(missed...)
}

// compare runs the contenders in turn, round after round, prints their table and
// fails when the first one's median ratio to the peer is above the goal. Warm-up
// rounds come first and do not count.
func compare(title string, list []contender, warmup, rounds int, peer string, goal float64) error {
	times := make([][]time.Duration, len(list))
	for round := range warmup + rounds {
		for i, c := range list {
			t, err := once(c, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round >= warmup {
				times[i] = append(times[i], t)
			}
		}
	}
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.name
	}
	return report(title, names, times, slices.Index(names, peer), goal)
}

// report prints the table of times, and fails when the first one's median ratio to the peer is above the goal.
func report(title string, names []string, times [][]time.Duration, p int, goal float64) error {
	fmt.Printf("%s: %d rounds\n", title, len(times[0]))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tmin ms\tmedian ms\tx %s\tdlrun is\t\n", names[p])
	for i, name := range names {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.2f\t%.2f x\t\n", name, ms(slices.Min(times[i])), ms(median(times[i])),
			ratio(times[i], times[p]), ratio(times[0], times[i]))
	}
	w.Flush()
	got := ratio(times[0], times[p])
	fmt.Printf("dlrun: %.2f x %s, goal %.2f\n\n", got, names[p], goal)
	if got > goal {
		return fmt.Errorf("%s: %.2f x %s, goal %.2f", title, got, names[p], goal)
	}
	return nil
}

func once(c contender, round int) (time.Duration, error) {
	fresh, err := filepath.Abs(id(c.name[:2], round))
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return 0, err
	}
	args := c.command(round, fresh)
	cmd := exec.Command(args[0], args[1:]...)
	out := new(strings.Builder)
	cmd.Stderr = out
	// What earlier commands wrote is not this one's to wait for.
	syscall.Sync()
	begin := time.Now()
	err = cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return took, nil
}

// ratio is the median of the rounds' own ratios, which a busy machine shifts
// less than a ratio of medians.
func ratio(a, b []time.Duration) float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = float64(a[i]) / float64(b[i])
	}
	return median(list)
}

func median[T time.Duration | float64](list []T) T {
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func id(name string, round int) string { return name + "-" + strconv.Itoa(round) }
