package spec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/runtime/spec"
)

const standard = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func TestEnvironment(t *testing.T) {
	file := func(lines ...string) []spec.File {
		return []spec.File{{Name: "f.env", Data: []byte(strings.Join(lines, "\n"))}}
	}
	for _, c := range []struct {
		name        string
		image, host []string
		o           spec.Options
		want        string // without HOME, PATH and PWD as they are by default
	}{
		{"nothing leaks", nil, []string{"LD_PRELOAD=x", "TMPDIR=/x", "USER=ann", "LOGNAME=ann", "PYTHONPATH=x", "HOME=/h", "PATH=/h", "PWD=/h", "OLDPWD=/h", "TERM=vt", "DLRUN_CACHE=x", "SSH_AUTH_SOCK=/s", "XDG_RUNTIME_DIR=/r"}, spec.Options{}, ""},
		{"image", []string{"A=1", "B=x=y", "PATH=/i"}, nil, spec.Options{}, "A=1 B=x=y PATH=/i"},
		{"an entry without = is ignored", []string{"SECRET", "=x", "A="}, []string{"SECRET=s"}, spec.Options{}, "A="},
		{"the job's own beat the image", []string{"OMP_NUM_THREADS=1"}, []string{"OMP_NUM_THREADS=4"}, spec.Options{}, "OMP_NUM_THREADS=4"},
		{"a name that only begins so", nil, []string{"SLURM=1", "XSLURM_A=1", "NSLOTS2=1", "PBS=1", "SLURMD_X=1"}, spec.Options{}, ""},
		{"no token", nil, []string{"SLURM_JWT=s", "SLURM_JWTX=t"}, spec.Options{KeepEnv: []string{"SLURM_*"}}, "SLURM_JWTX=t"},
		{"the token by its name", nil, []string{"SLURM_JWT=s"}, spec.Options{Env: []string{"SLURM_JWT"}}, "SLURM_JWT=s"},
		{"terminal", nil, []string{"TERM=vt100"}, spec.Options{Terminal: true}, "TERM=vt100"},
		{"keep", nil, []string{"FOO_A=1", "FOO_B=2", "BAR=3"}, spec.Options{KeepEnv: []string{"FOO_*", "BA?"}}, "BAR=3 FOO_A=1 FOO_B=2"},
		{"keep beats the image", []string{"FOO=i"}, []string{"FOO=h"}, spec.Options{KeepEnv: []string{"FOO"}}, "FOO=h"},
		{"the whole host below the image", []string{"A=i"}, []string{"A=h", "B=h", "SLURM_JWT=s", "PWD=/h", "TERM=x"}, spec.Options{EnvHost: true}, "A=i B=h TERM=x"},
		{"the host's PATH below the image's", []string{"PATH=/i"}, []string{"PATH=/h"}, spec.Options{EnvHost: true}, "PATH=/i"},
		{"-e beats all", []string{"A=i"}, []string{"SLURM_A=h"}, spec.Options{Env: []string{"A=e", "SLURM_A=e"}, EnvFiles: file("A=f")}, "A=e SLURM_A=e"},
		{"--env-file beats the job's own", nil, []string{"SLURM_A=h"}, spec.Options{EnvFiles: file("SLURM_A=f")}, "SLURM_A=f"},
		{"file syntax", nil, []string{"H=h"}, spec.Options{EnvFiles: file("\xef\xbb\xbf# comment", "", "  A=1\r", `B="q" # kept`, "H", "MISSING", "C=")}, `A=1 B="q" # kept C= H=h`},
		{"-e of the host", []string{"K=i"}, []string{"K=h"}, spec.Options{Env: []string{"K"}}, "K=h"},
		{"-e of nothing", []string{"K=i"}, nil, spec.Options{Env: []string{"K", "L"}}, "K=i"},
		{"-e empty", []string{"K=i"}, nil, spec.Options{Env: []string{"K="}}, "K="},
		{"the last -e counts", nil, nil, spec.Options{Env: []string{"K=1", "K=2"}}, "K=2"},
		{"unset comes last", []string{"A=1", "AB=1", "B=1"}, []string{"SLURM_A=1"}, spec.Options{Env: []string{"AC=1"}, UnsetEnv: []string{"A*", "SLURM_*"}}, "B=1"},
		{"unset leaves the three that are always set", []string{"A=1"}, nil, spec.Options{UnsetEnv: []string{"*"}}, ""},
		{"home of the image", []string{"HOME=/root"}, nil, spec.Options{}, "HOME=/root"},
		{"an empty home is none", []string{"HOME="}, nil, spec.Options{}, ""},
		{"--home beats the image", []string{"HOME=/root"}, nil, spec.Options{Home: ptr("")}, ""},
		{"-e HOME", []string{"HOME=/root"}, nil, spec.Options{Env: []string{"HOME=/e"}}, "HOME=/e"},
		{"PWD is where it is", []string{"PWD=/i"}, nil, spec.Options{Env: []string{"PWD=/e"}, Workdir: "sub/"}, "PWD=/data/project/sub"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := ann()
			h.Env = c.host
			h = exist(t, h, c.o, "/home/ann/")
			var got []string
			for _, e := range describe(t, c.image, h, c.o).Process.Env {
				if !slices.Contains([]string{standard, "HOME=/home/ann", "PWD=/data/project"}, e) {
					got = append(got, e)
				}
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestEnvironmentDefaults(t *testing.T) {
	got := describe(t, nil, ann(), spec.Options{}).Process.Env
	if diff := cmp.Diff([]string{"HOME=/home/ann", standard, "PWD=/data/project"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestEnvironmentJob(t *testing.T) {
	for _, k := range []string{
		"SLURM_PROCID", "SLURMD_NODENAME", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "JOB_ID", "NSLOTS", "FLUX_URI", "PALS_RANKID", "_CONDOR_SLOT",
		"PMI_FD", "PMI2_X", "PMIX_RANK", "OMPI_MCA_btl", "PRTE_X", "I_MPI_ROOT", "HYDI_CONTROL_FD", "UCX_TLS", "FI_PROVIDER", "NCCL_DEBUG", "OMP_PLACES", "KMP_AFFINITY",
		"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DATALAD_CONTAINER_NAME",
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
	} {
		h := ann()
		h.Env = []string{k + "=v"}
		if got := describe(t, nil, h, spec.Options{}).Process.Env; !slices.Contains(got, k+"=v") {
			t.Errorf("%s does not pass", k)
		}
	}
}

func TestEnvironmentRefused(t *testing.T) {
	for _, c := range []struct {
		o    spec.Options
		want string
	}{
		{spec.Options{Env: []string{"=x"}}, `"=x" has no valid variable name`},
		{spec.Options{Env: []string{""}}, `"" has no valid variable name`},
		{spec.Options{Env: []string{"A B=x"}}, `"A B=x" has no valid variable name`},
		{spec.Options{Env: []string{"A=x\x00y"}}, "zero byte"},
		{spec.Options{EnvFiles: []spec.File{{Name: "f.env", Data: []byte("A=1\n\nexport B=2\n")}}}, "f.env:3:"},
		{spec.Options{KeepEnv: []string{"A[*"}}, `"A[*" is not a valid pattern`},
		{spec.Options{UnsetEnv: []string{"["}}, `"[" is not a valid pattern`},
	} {
		_, err := create(nil, ann(), c.o)
		checkError(t, err, c.want, "")
	}
}
