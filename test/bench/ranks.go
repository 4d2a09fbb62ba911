package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The ranks of a job step on one node.
const (
	rankCount   = 64
	rankGoal    = 2.0
	rankPeer    = "ch-run --join"
	rankMemory  = 4 << 20 // bytes that are dlrun's alone, a rank
	rankCommand = "echo here; read line || :"
)

// A stepContender is one way to start the ranks of a step.
type stepContender struct {
	name string
	rank func(round, rank int) *exec.Cmd
}

func stepContenders(dir string) []stepContender {
	command := []string{"--", "sh", "-c", rankCommand}
	count := strconv.Itoa(rankCount)
	return []stepContender{
		{"dlrun", func(round, rank int) *exec.Cmd {
			cmd := exec.Command("./dlrun", append([]string{"--cache", filepath.Join(dir, "store"), os.Getenv("TINY")}, command...)...)
			cmd.Env = append(os.Environ(), "SLURM_JOB_ID=1", "SLURM_NODEID=0", "SLURM_STEP_TASKS_PER_NODE="+count,
				fmt.Sprintf("SLURM_STEP_ID=%d", round), fmt.Sprintf("SLURM_PROCID=%d", rank))
			return cmd
		}},
		{rankPeer, func(round, _ int) *exec.Cmd {
			args := []string{"--join", "--join-ct=" + count, fmt.Sprintf("--join-tag=bench%d-%d", os.Getpid(), round), filepath.Join(dir, "bundle", "rootfs")}
			return exec.Command("ch-run", append(args, command...)...)
		}},
	}
}

// measureRanks times from the start of the first rank until the commands of all run, round after round.
func measureRanks(dir string, rounds int) error {
	list := stepContenders(dir)
	times := make([][]time.Duration, len(list))
	memory := 0
	for round := range 1 + rounds {
		for i, c := range list {
			t, m, err := step(c, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if i == 0 {
				memory = max(memory, m)
			}
			if round > 0 { // the first one warms up
				times[i] = append(times[i], t)
			}
		}
	}
	title := fmt.Sprintf("start of %d ranks of one step", rankCount)
	err := report(title, []string{list[0].name, list[1].name}, times, 1, rankGoal)
	fmt.Printf("private memory of dlrun a rank, at most: %.2f MB, goal %d MB\n\n", float64(memory)/(1<<20), rankMemory>>20)
	if memory > rankMemory {
		err = errors.Join(err, fmt.Errorf("%d bytes of private memory a rank", memory))
	}
	return err
}

// step starts the ranks, waits until their commands run, and ends them. It returns how long the start took, and how much private
// memory a rank's processes hold besides the command, in bytes.
func step(c stepContender, round int) (took time.Duration, memory int, err error) {
	ranks := make([]*exec.Cmd, rankCount)
	outs, ins := make([]*bufio.Reader, rankCount), make([]io.Closer, rankCount)
	messages := new(bytes.Buffer)
	for i := range ranks {
		cmd := c.rank(round, i)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, 0, err
		}
		if ins[i], err = cmd.StdinPipe(); err != nil {
			return 0, 0, err
		}
		if i == 0 {
			cmd.Stderr = messages
		}
		ranks[i], outs[i] = cmd, bufio.NewReader(out)
	}
	begin := time.Now()
	for _, cmd := range ranks {
		if err := cmd.Start(); err != nil {
			return 0, 0, err
		}
	}
	for i, out := range outs {
		if line, e := out.ReadString('\n'); line != "here\n" {
			err = errors.Join(err, fmt.Errorf("rank %d: %w", i, e))
		}
	}
	took = time.Since(begin)
	for _, cmd := range ranks {
		memory += private(cmd.Process.Pid, true)
	}
	for i, cmd := range ranks {
		ins[i].Close()
		if e := cmd.Wait(); e != nil {
			err = errors.Join(err, fmt.Errorf("rank %d: %w: %s", i, e, messages))
		}
	}
	return took, memory / rankCount, err
}

// private is the memory of a rank that no other process has too, without its command.
func private(pid int, top bool) int {
	sum := 0
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if !top && strings.TrimSpace(string(comm)) != "dlrun" {
		return 0
	}
	rollup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(rollup)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
			kb, _ := strconv.Atoi(f[1])
			sum += kb << 10
		}
	}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range children {
		list, _ := os.ReadFile(file)
		for _, child := range strings.Fields(string(list)) {
			n, _ := strconv.Atoi(child)
			sum += private(n, false)
		}
	}
	return sum
}
