#!/bin/sh
# Empties and removes containerd's folders; prints what there was. Arguments: the folders.
set -eu
for folder in "$@"; do
    [ -d "$folder" ] || continue
    # Mounts that killed containers left behind; the folder may be a file system of its own, which stays.
    awk -v below="$folder/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount -l "$mount"
    done
    find "$folder" -xdev -mindepth 1 -print -delete | head -n 1
    mountpoint -q "$folder" || rmdir "$folder"
done
