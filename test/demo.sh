#!/bin/sh
# demo.sh: make a Debian image from Debian packages, put it into a dataset, and
# run a command in it as an ordinary user. What it makes stays in bin/demo.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
demo=$top/bin/demo
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say "1. Make an OCI image from Debian packages (mmdebstrap; a minute, once)"
go build -o bin/image ./test/image
image=$(DLRUN_TEST_CACHE=$demo bin/image minbase)
du -sh "$image"

# dlrun is for ordinary users; root only sets the scene.
as=
if [ "$(id -u)" = 0 ]; then
	go build -o bin/as ./test/as
	as="$top/bin/as dlrun-nosub"
	say "   You are root: the rest runs as the user dlrun-nosub, who has no special right"
fi
mkdir -p "$demo"
work=$($as mktemp -d /var/tmp/dlrun-demo.XXXXXX)
trap 'chmod -R u+rwX "$work"; rm -rf "$work"' EXIT

cat >"$demo/session.sh" <<'SESSION'
set -eu
image=$1 work=$2 PATH=$3:$PATH
cd "$work"
: "${XDG_CACHE_HOME:=$work/.cache}" && export XDG_CACHE_HOME
say() { printf '\n%s\n' "$*"; }
run() { printf "$ %s\n" "$*"; "$@"; }
dataset=study
git config user.name >/dev/null 2>&1 || export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=user.name \
	GIT_CONFIG_VALUE_0=demo GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=demo@example.org
if command -v datalad >/dev/null; then
	say "2. Put it into a DataLad dataset"
	run datalad -l warning -f disabled create $dataset
	cp -r "$image" $dataset/image
	run datalad -l warning -f disabled save -d $dataset -m 'Debian image'
elif command -v git-annex >/dev/null; then
	say "2. Put it into a git-annex dataset"
	git init -q $dataset
	cp -r "$image" $dataset/image
	(cd $dataset && run git annex init -q && run git annex add -q image && run git commit -qm 'Debian image')
else
	say "2. No DataLad here (apt install datalad): a plain directory does as well"
	mkdir $dataset
	cp -r "$image" $dataset/image
fi
cd $dataset
say "3. Run in it: the first start unpacks the image, the second one does not"
run dlrun image -- sh -c '. /etc/os-release; echo "$PRETTY_NAME, uid $(id -u), in $PWD"; dpkg -l | grep -c ^ii >packages.txt'
run dlrun image -- cat packages.txt
run ls -l packages.txt
say "That was Debian's package count, written by a command inside the image, owned by $(id -un)."
SESSION
chmod 755 "$demo/session.sh"
$as sh "$demo/session.sh" "$image" "$work" "$top/bin"
