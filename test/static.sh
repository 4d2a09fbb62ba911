#!/bin/sh
# static.sh BINARY: fail unless BINARY needs no loader and no shared library.
set -eu
if readelf --program-headers --wide "$1" | grep -E '^ *(INTERP|DYNAMIC)'; then
	echo "$1 is not static" >&2
	exit 1
fi
