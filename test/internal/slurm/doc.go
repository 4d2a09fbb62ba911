// Package slurm gives tests a Slurm cluster of several nodes on one machine: real daemons, bounded in time, ended by
// process id.
//
// For root each node is a process 1 of its own (node.sh) with its own pid, IPC, UTS and mount namespace: hostname is
// n1, n2, …; /tmp, /dev/shm and /run/user are the node's. All else is shared, as a parallel file system would be. Whoever
// is not root has the daemons in the machine's own namespaces, and jobs of that user alone.
//
// What such a cluster does not show: it is one kernel, with one boot id and one network; and no cgroup holds what a
// task leaves behind, since proctrack/linuxproc follows parents.
package slurm
