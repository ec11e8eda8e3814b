#!/bin/busybox sh
# The first process of a guest: sets up what a command needs, runs it, says how it ended.
# The kernel's messages go to the first serial port, the command's output to the second.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM=dumb RUST_BACKTRACE=0
export STACKWALK_GUEST=/dev/ttyS1 STACKWALK_BINARY=/bin/stackwalk

mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs -o mode=1777 none /tmp
mount -t tracefs none /sys/kernel/tracing
mount -t debugfs none /sys/kernel/debug
# The last is not there in a kernel without BPF.
[ ! -d /sys/fs/bpf ] || mount -t bpf none /sys/fs/bpf
ip link set lo up
# Tells QEMU where the kernel's own description of itself is, for memory dumps.
[ ! -e /lib/modules/qemu_fw_cfg.ko ] || insmod /lib/modules/qemu_fw_cfg.ko

cd /root
# Bytes as they are, and no echo of the host's answers.
stty raw -echo < "$STACKWALK_GUEST"
exec > "$STACKWALK_GUEST" 2>&1
echo "stackwalk-guest: begin @TOKEN@"
sh /command < /dev/null
echo "stackwalk-guest: end @TOKEN@ $?"
# The host ends the machine when it has read the line. If it does not, this does.
sleep 10
poweroff -f
