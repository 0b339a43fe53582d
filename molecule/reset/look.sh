#!/bin/sh
# What makes a host, a fact a line: rules without the chains that every table has, files, and what runs.
iptables-save | grep -E '^(-A|:(KUBE|CNI|FLANNEL))'
! command -v nft >/dev/null || nft list tables inet
ip -brief link | awk '{print "link", $1}'
awk '{print "mount", $5, $6}' /proc/self/mountinfo
# A session is whoever looks.
systemctl list-unit-files --no-legend --plain | grep -v '^session-[0-9]*\.scope ' | awk '{print "unit", $1, $2}'
dpkg-query --show
getent passwd
getent group
sysctl --all 2>/dev/null | grep -E '^(kernel\.(kptr|dmesg|yama|sysrq|perf_event_par|unpriv|panic|keys\.root)|vm\.(overcommit_memory|panic)|fs\.(protected|suid)|net\.ipv4\.conf\.(all|default)\.(rp_f|send|accept_|log)|dev\.tty)'
find /etc /boot /usr/local /usr/libexec /opt /srv /root /home /var/lib/rancher /var/lib/containerd /var/lib/kubelet /var/lib/cni \
  /var/lib/edgefleet /run/containerd /run/k3s /run/flannel /run/netns /run/edgefleet /var/log/pods /var/log/containers \
  -path '*/.ansible/tmp/*' -prune -o -printf '%p %y %m %u %l\n' 2>/dev/null
# Of programs alone: the kernel's own threads, in brackets, come and go, as udev's workers do.
# shellcheck disable=SC2009 # pgrep does not show all but a few.
ps -e -o comm= -o args= | awk '$2 !~ /^\[/ || /<defunct>/ {print $1}' | grep -vE '^(look.sh|python3.*|sftp-server|sudo|ps|sh|awk|grep|sed|sort|find|systemctl|sshd.*|\(sd-pam\)|systemd|\(udev-worker\))$' | sed 's/^/runs /' | sort -u
