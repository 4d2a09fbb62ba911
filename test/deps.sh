#!/bin/sh
# deps.sh check|install SET...   SET is build or test
#
# Debian packages that building and testing need. Go is assumed. "check" fails
# when one is missing; "install" gets it with apt where the caller may, else
# fails naming all of them and the command to type.
set -eu

build='gcc libc6-dev libseccomp-dev binutils git make ca-certificates busybox-static
	mmdebstrap fakechroot fakeroot'
test='podman buildah skopeo umoci charliecloud bubblewrap crun runc fuse-overlayfs uidmap docker-registry git-annex datalad
	datalad-container strace attr libcap2-bin util-linux jq procps zstd xz-utils qemu-system-x86 e2fsprogs libnss-extrausers keyutils parallel
	slurmctld slurmd slurm-client munge openmpi-bin libopenmpi-dev mpich libmpich-dev'

verb=$1
shift
want=
for set in "$@"; do
	case $set in
	build) want="$want $build" ;;
	test) want="$want $test" ;;
	*) echo "deps.sh: no set $set" >&2; exit 2 ;;
	esac
done

missing() {
	# One query for all; a package that dpkg does not know is not in its answer.
	have=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' $want 2>/dev/null |
		sed -n 's/^installed //p')
	for p in $want; do
		echo "$have" | grep -qxF "$p" || printf ' %s' "$p"
	done
}

go version >/dev/null 2>&1 || { echo "deps.sh: no go in PATH: see https://go.dev/doc/install" >&2; exit 1; }
need=$(missing)
test -n "$need" || exit 0
if [ "$verb" = check ] && [ -n "${DLRUN_TEST_PARTIAL:-}" ]; then
	echo "deps.sh: going on without$need" >&2
	exit 0
fi
apt=
if [ "$(id -u)" = 0 ]; then
	apt=env
elif sudo -n true 2>/dev/null; then
	apt='sudo env'
fi
if [ "$verb" = check ] || [ -z "$apt" ]; then
	echo "missing Debian packages:$need" >&2
	echo "hint: sudo make deps" >&2
	exit 1
fi
get="$apt DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet=2 -o Dpkg::Use-Pty=0"
# The package lists may be missing or old: fetch them only when that shows.
$get install --no-install-recommends $need >/dev/null 2>&1 || {
	$get update
	$get install --no-install-recommends $need >/dev/null
}
need=$(missing)
test -z "$need" || { echo "deps.sh: apt did not install$need" >&2; exit 1; }
