#!/bin/sh
# Purges the packages of a list (first argument) that nothing else on the host needs by now, and removes the list.
set -eu
list=$1
[ -e "$list" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
brought=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | grep -Fx -f "$list" || true)
if [ -n "$brought" ]; then
    # shellcheck disable=SC2086 # a list of words
    apt-mark auto $brought >/dev/null
    unneeded=$(apt-get --simulate --quiet autoremove | sed -n 's/^Remv \([^ ]*\).*/\1/p' | grep -Fx -f "$list" || true)
    # shellcheck disable=SC2086
    [ -z "$unneeded" ] || apt-get --yes --quiet purge $unneeded
fi
rm -f "$list"
rmdir --ignore-fail-on-non-empty "${list%/*}"
echo "removed: $brought"
