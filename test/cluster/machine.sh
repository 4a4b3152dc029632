# The first process of a machine: /bin/sh -c THIS machine NAME DIR IPTABLES BIND...
# It runs in new pid, mount, uts, ipc and network namespaces, and it is their
# pid 1: when it ends, the kernel ends everything in them.
set -eu
read -r go || exit 1 # closed without a word: the lab died before it recorded us
[ "$go" = go ]
name=$1 dir=$2 iptables=$3
shift 3

echo "$name" >/proc/sys/kernel/hostname
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run

# A sysfs that shows this network namespace, around the machine's cgroups.
mkdir -p "$dir/cgroup"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
umount -l /sys
mount -t sysfs sysfs /sys
mount --rbind "$dir/cgroup" /sys/fs/cgroup
umount -l "$dir/cgroup"
mount -t bpf bpf /sys/fs/bpf

# kubelet tunes these for the whole machine. Here it tunes a copy.
for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
	kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	mkdir -p "$dir/sysctl/${key%/*}"
	cat "/proc/sys/$key" >"$dir/sysctl/$key"
	mount --bind "$dir/sysctl/$key" "/proc/sys/$key"
done

# Directories of the node's own at the usual paths.
for path; do
	mkdir -p "$dir/root$path"
	mount --bind "$dir/root$path" "$path"
done

# The variant of iptables that this node uses, first in PATH.
mkdir -p /run/lab/bin
for tool in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
	ln -s "/usr/sbin/xtables-$iptables-multi" "/run/lab/bin/$tool"
done

mount --make-rshared /
echo ready
exec </dev/null >/dev/null
# The kernel reaps orphans for a parent that ignores SIGCHLD.
exec env --ignore-signal=CHLD sleep infinity
