package spec_test

import (
	"testing"

	"github.com/dlrun/dlrun/runtime/spec"
)

func TestStepOf(t *testing.T) {
	slurm := []string{"SLURM_JOB_ID=7", "SLURM_STEP_ID=2", "SLURM_PROCID=5", "SLURM_NODEID=1", "SLURM_STEP_TASKS_PER_NODE=4,3(x2)"}
	ompi := []string{"OMPI_COMM_WORLD_LOCAL_SIZE=4", "OMPI_COMM_WORLD_RANK=3", "PMIX_NAMESPACE=12", "PMIX_SERVER_URI4=12.0;tcp4://127.0.0.1:5"}
	hydra := []string{"MPI_LOCALNRANKS=2", "PMI_RANK=1"}
	for _, c := range []struct {
		name     string
		env      []string
		launcher string
		want     spec.Step
	}{
		{"none", []string{"HOME=/"}, "", spec.Step{}},
		{"a batch script", []string{"SLURM_JOB_ID=7", "SLURM_PROCID=0", "SLURM_TASKS_PER_NODE=4"}, "", spec.Step{}},
		{"Slurm", slurm, "", spec.Step{ID: "slurm 7 2 1", Rank: "5", Tasks: 3}},
		{"Slurm, first node", append(slurm, "SLURM_NODEID=0"), "", spec.Step{ID: "slurm 7 2 0", Rank: "5", Tasks: 4}},
		{"Slurm, last node", append(slurm, "SLURM_NODEID=2"), "", spec.Step{ID: "slurm 7 2 2", Rank: "5", Tasks: 3}},
		{"Slurm, a node too many", append(slurm, "SLURM_NODEID=3"), "", spec.Step{ID: "slurm 7 2 3", Rank: "5"}},
		{"Slurm, nonsense", append(slurm, "SLURM_STEP_TASKS_PER_NODE=x(x"), "", spec.Step{ID: "slurm 7 2 1", Rank: "5"}},
		{"Open MPI", ompi, "", spec.Step{ID: "ompi 12 12.0;tcp4://127.0.0.1:5", Rank: "3", Tasks: 4}},
		{"Open MPI in a step", append(slurm, ompi...), "", spec.Step{ID: "ompi 12 12.0;tcp4://127.0.0.1:5", Rank: "3", Tasks: 4}},
		{"Hydra", hydra, "99 5", spec.Step{ID: "hydra 99 5", Rank: "1", Tasks: 2}},
		{"Hydra in a step", append(slurm, hydra...), "99 5", spec.Step{ID: "hydra 99 5", Rank: "1", Tasks: 2}},
		{"Hydra out of sight", hydra, "", spec.Step{}},
	} {
		if got := spec.StepOf(c.env, func() string { return c.launcher }); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
