package runtime

import (
	"bytes"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What a launcher offers the ranks of an MPI program, to find each other.
const (
	OfferPMI2 = "PMI2"    // a file descriptor, PMI_FD
	OfferPMIx = "PMIx"    // a server
	OfferNone = "nothing" // though there are several ranks
)

// MPIError says why an MPI program that failed could not have worked.
type MPIError struct{ Library, Offer, Remedy string }

func (e *MPIError) Error() string {
	return "the image's MPI is " + e.Library + ", and the launcher offers " + e.Offer
}

// Hint is the next step.
func (e *MPIError) Hint() string { return e.Remedy }

// explainMPI compares the MPI of the image with what the launcher offers. It returns nil where they can speak with each other, or
// the image has none. The names of libraries are those that the image's dynamic linker has in its cache.
func explainMPI(s *specs.Spec, offer string) error {
	root, err := openRoot(s.Root.Path, "")
	if err != nil {
		return nil
	}
	defer root.close()
	cache, err := root.readFile("/etc/ld.so.cache")
	if err != nil {
		return nil
	}
	if e := matchMPI(cache, offer); e != nil {
		return e
	}
	return nil
}

func matchMPI(cache []byte, offer string) *MPIError {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return bytes.Contains(cache, append([]byte(n), 0)) })
	}
	pmix, pmi2 := has("libpmix.so.2"), has("libpmi2.so.0", "libpmi.so.0")
	var library, use string
	switch {
	case has("libmpi.so.40", "libmpi.so.20"):
		library, use = "Open MPI", "pmix"
		if offer == OfferPMI2 && pmi2 { // built with Slurm's own library
			return nil
		}
	case has("libmpich.so.12", "libmpi.so.12"):
		library, use = "MPICH or one of its kin", "pmi2"
		if offer == OfferPMIx && pmix {
			return nil
		}
	default:
		return nil
	}
	switch {
	case offer == OfferPMIx && has("libpmix.so.1") && !pmix:
		return &MPIError{library + " with PMIx 1", offer, "build the image with PMIx 2.1 or later"}
	case use == "pmix" && offer == OfferPMIx, use == "pmi2" && offer == OfferPMI2:
		return nil
	}
	return &MPIError{library, offer, "srun --mpi=" + use + " (srun --mpi=list tells what this Slurm has)"}
}
