package spec

import (
	"strconv"
	"strings"
)

// Step is what has started this process as one of several: a job step, or a launcher of MPI.
type Step struct {
	ID    string // tells steps on one node apart; "" for none
	Rank  string // tells the processes of the step apart
	Tasks int    // how many of them are on this node
}

// StepOf reads the step from the caller's environment. A launcher within a job step stands for it: its ranks are what belongs
// together. Of Hydra the environment says all but which; launcher is asked for that, and may say "".
func StepOf(env []string, launcher func() string) Step {
	e := parseVars(env)
	switch {
	case e["OMPI_COMM_WORLD_LOCAL_SIZE"] != "":
		// A port that the launcher listens on tells it from all others of this time.
		id := e["PMIX_NAMESPACE"]
		for _, uri := range []string{"OMPI_MCA_orte_local_daemon_uri", "PMIX_SERVER_URI41", "PMIX_SERVER_URI4", "PMIX_SERVER_URI3", "PMIX_SERVER_URI2"} {
			if e[uri] != "" {
				id += " " + e[uri]
				break
			}
		}
		return Step{"ompi " + id, e["OMPI_COMM_WORLD_RANK"], count(e["OMPI_COMM_WORLD_LOCAL_SIZE"])}
	case e["MPI_LOCALNRANKS"] != "": // MPICH, Intel MPI and their kin
		if id := launcher(); id != "" {
			return Step{"hydra " + id, e["PMI_RANK"], count(e["MPI_LOCALNRANKS"])}
		}
	case e["SLURM_STEP_ID"] != "":
		id := strings.Join([]string{"slurm", e["SLURM_JOB_ID"], e["SLURM_STEP_ID"], e["SLURM_NODEID"]}, " ")
		return Step{id, e["SLURM_PROCID"], tasksHere(e["SLURM_STEP_TASKS_PER_NODE"], count(e["SLURM_NODEID"]))}
	}
	return Step{}
}

// tasksHere reads Slurm's list of tasks a node, "3,1(x2)", for one node, counted from 0.
func tasksHere(list string, node int) int {
	for part := range strings.SplitSeq(list, ",") {
		tasks, times, repeated := strings.Cut(strings.TrimSuffix(part, ")"), "(x")
		n := 1
		if repeated {
			n = count(times)
		}
		if node -= n; node < 0 {
			return count(tasks)
		}
	}
	return 0
}

func count(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
