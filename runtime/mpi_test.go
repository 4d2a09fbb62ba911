package runtime

import (
	"strings"
	"testing"
)

func TestMatchMPI(t *testing.T) {
	for _, c := range []struct{ libraries, offer, want string }{
		{"libc.so.6", OfferPMIx, ""},
		{"libmpi.so.40 libpmix.so.2", OfferPMIx, ""},
		{"libmpi.so.40", OfferPMIx, ""}, // it may hold its own PMIx
		{"libmpi.so.40 libpmix.so.2", OfferPMI2, "srun --mpi=pmix"},
		{"libmpi.so.40 libpmi2.so.0", OfferPMI2, ""},
		{"libmpi.so.40 libpmix.so.2", OfferNone, "srun --mpi=pmix"},
		{"libmpi.so.20 libpmix.so.1", OfferPMIx, "PMIx 2.1"},
		{"libmpich.so.12", OfferPMI2, ""},
		{"libmpich.so.12", OfferPMIx, "srun --mpi=pmi2"},
		{"libmpi.so.12", OfferPMIx, "srun --mpi=pmi2"},
		{"libmpi.so.12 libpmix.so.2", OfferPMIx, ""},
		{"libmpich.so.12", OfferNone, "srun --mpi=pmi2"},
		{"libmpi.so.400", OfferPMI2, ""},
	} {
		cache := "glibc-ld.so.cache1.1" + strings.ReplaceAll(c.libraries, " ", "\x00") + "\x00"
		got := ""
		if e := matchMPI([]byte(cache), c.offer); e != nil {
			got = e.Remedy
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, %s: %q, want %q", c.libraries, c.offer, got, c.want)
		}
	}
}
