#!/bin/sh
# Adds to a list (first argument) the packages that installing the others would newly bring to this host.
set -eu
list=$1
shift
mkdir -p "${list%/*}"
apt-get --simulate --quiet --no-install-recommends install "$@" | sed -n 's/^Inst \([^ ]*\) (.*/\1/p' >>"$list"
sort --unique --output="$list" "$list"
