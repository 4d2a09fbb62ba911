#!/bin/sh
# node.sh DIR NAME: process 1 of a node, in pid, IPC, UTS and mount namespaces of its own. It reaps what tasks leave and
# ends with slurmd, and everything in the node with it.
set -eu
dir=$1 name=$2
hostname "$name"
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$dir/hosts" /etc/hosts
mount -t tmpfs -o mode=1777,nosuid,nodev "shm-$name" /dev/shm
mkdir -p "$dir/nodes/$name/tmp"
chmod 1777 "$dir/nodes/$name/tmp"
mount --bind "$dir/nodes/$name/tmp" /tmp
test ! -d /run/user || mount -t tmpfs -o mode=755,nosuid,nodev "run-$name" /run/user
cd "$dir"
slurmd -D -N "$name" -f "$dir/slurm.conf" &
slurmd=$!
trap 'kill -TERM $slurmd' TERM
# A signal ends wait early.
while kill -0 $slurmd 2>/dev/null; do wait $slurmd || :; done
