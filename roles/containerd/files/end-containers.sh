#!/bin/sh
# Ends and removes every container of every namespace; prints their names. Arguments: ctr and its options.
set -eu
for namespace in $("$@" namespaces list --quiet); do
    for container in $("$@" --namespace "$namespace" containers list --quiet); do
        "$@" --namespace "$namespace" tasks delete --force "$container" >/dev/null 2>&1 || true
        "$@" --namespace "$namespace" containers delete "$container"
        echo "$namespace/$container"
    done
done
