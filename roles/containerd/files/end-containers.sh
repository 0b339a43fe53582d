#!/bin/sh
# Ends and removes every container of every namespace; prints their names. Arguments: ctr and its options.
set -eu

# Where the runtime is gone already nobody else ends them: what is left of them goes with containerd's folders.
end_process() {
    "$@" tasks list | awk -v name="$container" '$1 == name && $2 > 1 && $3 != "STOPPED" { print $2 }' |
        xargs -r kill -KILL || true
}

for namespace in $("$@" namespaces list --quiet); do
    for container in $("$@" --namespace "$namespace" containers list --quiet); do
        "$@" --namespace "$namespace" tasks delete --force "$container" >/dev/null 2>&1 || true
        "$@" --namespace "$namespace" containers delete "$container" >/dev/null 2>&1 ||
            end_process "$@" --namespace "$namespace"
        echo "$namespace/$container"
    done
done
