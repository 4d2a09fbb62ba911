package spec

import (
	"path"
	"slices"
	"strings"
)

// jobVar is a family of the job's own variables, which pass from the host.
type jobVar struct {
	glob  string // a plain name where names is set
	names what   // what the value names on the host, to be bound at the same path
}

// what a variable's value names.
type what int

const (
	nothing   what = iota
	file           // a file, bound read-only
	directory      // a directory in which a server keeps what its clients map, bound writable
	jobServer      // GNU make's flags, in them perhaps the fifo of its job server
)

// jobVars is the one table of variables that pass by default.
func jobVars() []jobVar {
	return []jobVar{
		// Slurm
		{"SLURM_HOSTFILE", file},
		{"SLURM_CONF", file},
		{"SLURM_*", nothing},
		{"SLURMD_NODENAME", nothing},
		// PBS, LSF, Grid Engine
		{"PBS_NODEFILE", file},
		{"PBS_GPUFILE", file},
		{"PBS_*", nothing},
		{"LSB_HOSTFILE", file},
		{"LSB_DJOB_HOSTFILE", file},
		{"LSB_DJOB_RANKFILE", file},
		{"LSB_AFFINITY_HOSTFILE", file},
		{"LSB_*", nothing},
		{"SGE_*", nothing},
		{"JOB_ID", nothing},
		{"NSLOTS", nothing},
		// Flux, HPE PALS, HTCondor
		{"FLUX_*", nothing},
		{"PALS_APINFO", file},
		{"PALS_SPOOL_DIR", directory},
		{"PALS_*", nothing},
		{"_CONDOR_JOB_AD", file},
		{"_CONDOR_MACHINE_AD", file},
		{"_CONDOR_*", nothing},
		// PMI, PMIx and the MPI libraries
		{"PMIX_SERVER_TMPDIR", directory},
		{"PMI*", nothing},
		{"OMPI_*", nothing},
		{"PRTE_*", nothing},
		{"I_MPI_HYDRA_HOST_FILE", file},
		{"I_MPI_HYDRA_MACHINE_FILE", file},
		{"I_MPI_*", nothing},
		{"HYDI_*", nothing},
		{"UCX_*", nothing},
		{"FI_*", nothing},
		{"NCCL_CONF_FILE", file},
		{"NCCL_TOPO_FILE", file},
		{"NCCL_GRAPH_FILE", file},
		{"NCCL_TUNER_CONFIG_PATH", file},
		{"NCCL_*", nothing},
		// threads and accelerators
		{"OMP_*", nothing},
		{"KMP_*", nothing},
		{"*_VISIBLE_DEVICES", nothing},
		{"GPU_DEVICE_ORDINAL", nothing},
		{"ZE_AFFINITY_MASK", nothing},
		// make
		{"MAKEFLAGS", jobServer},
		{"MAKELEVEL", nothing},
		{"MFLAGS", nothing},
		// DataLad
		{"DATALAD_*", nothing},
		// proxies
		{"http_proxy", nothing}, {"https_proxy", nothing}, {"ftp_proxy", nothing}, {"all_proxy", nothing}, {"no_proxy", nothing},
		{"HTTP_PROXY", nothing}, {"HTTPS_PROXY", nothing}, {"FTP_PROXY", nothing}, {"ALL_PROXY", nothing}, {"NO_PROXY", nothing},
	}
}

// kept reports whether the host's variable k passes: one of the job's own, or of
// --keep-env. SLURM_JWT passes by its full name with -e alone.
func kept(k string, o Options) bool {
	switch {
	case k == "SLURM_JWT":
		return false
	case k == "TERM" && o.Terminal, matches(o.KeepEnv, k):
		return true
	}
	return slices.ContainsFunc(jobVars(), func(v jobVar) bool {
		return matches([]string{v.glob}, k)
	})
}

// jobFile is what a variable of the job names.
type jobFile struct {
	variable, path string
	names          what
}

// jobFiles are the absolute paths that the job's own variables name. They come from
// the caller's environment and never from the image's, which could name any file.
func jobFiles(outside vars) []jobFile {
	var files []jobFile
	for _, v := range jobVars() {
		if v.names == nothing {
			continue
		}
		value := outside[v.glob]
		if v.names == jobServer {
			value = jobServerFifo(value)
		}
		if path.IsAbs(value) {
			files = append(files, jobFile{v.glob, path.Clean(value), v.names})
		}
	}
	return files
}

// jobServerFifo is the fifo of GNU make >= 4.4 in MAKEFLAGS, or "". Older ones pass
// two file descriptors. The last flag counts, as in make itself.
func jobServerFifo(flags string) string {
	fifo := ""
	for _, f := range strings.Fields(flags) {
		if p, ok := strings.CutPrefix(f, "--jobserver-auth=fifo:"); ok {
			fifo = p
		}
	}
	return fifo
}
