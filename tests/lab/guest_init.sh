#!/bin/sh
# /init of the lab's guest. Starts the real guest agent, mounts the disks, runs a writer, and obeys
# one-line commands on a virtio port. Kernel command line: hold=1 no disks until the command `start`
# (for the saved template), writer=0 no writer, agent=0 no agent program.

AGENT_PORT=/dev/virtio-ports/org.qemu.guest_agent.0
CONTROL_PORT=/dev/virtio-ports/org.virtceph.control.0
ACK_PORT=/dev/virtio-ports/org.virtceph.ack.0

option() { # NAME: succeeds if the kernel command line has it
	case " $cmdline " in *" $1 "*) return 0 ;; esac
	return 1
}

pause() { # SECONDS: like sleep, without a fork: nobody ever writes into this pipe
	read -r -t $1 _ <>/run/silence
	return 0
}

name_ports() { # what udev would do
	mkdir -p /dev/virtio-ports
	tries=0
	unnamed=yes
	# Ports appear one by one, and each gets its name a moment later.
	while { [ -n "$unnamed" ] || [ ! -e $ACK_PORT ]; } && [ $tries -lt 100 ]; do
		[ $tries -gt 0 ] && pause 0.05
		tries=$((tries + 1))
		unnamed=
		for port in /sys/class/virtio-ports/vport*; do
			name=
			[ -e "$port/name" ] && read -r name <"$port/name"
			[ -n "$name" ] || unnamed=yes
			[ -n "$name" ] && ln -sf "/dev/${port##*/}" "/dev/virtio-ports/$name"
		done
	done
}

mount_disks() { # mount each disk, after mkfs if it holds no ext4
	insmod /lib/modules/virtio_blk.ko 2>/dev/null
	for letter in a b c d e f g h; do
		[ -b /dev/vd$letter ] || continue
		mkdir -p /mnt/$letter
		grep -q "^/dev/vd$letter " /proc/mounts && continue
		magic=$(dd if=/dev/vd$letter bs=2 skip=540 count=1 2>/dev/null | od -An -tx2)
		# A damaged file system is never made anew: a test may want to see the damage.
		[ "$magic" = " ef53" ] || mkfs.ext4 -F -q /dev/vd$letter || return 1
		mount -t ext4 -o errors=remount-ro /dev/vd$letter /mnt/$letter || return 1
	done
}

writer() { # numbered records in lockstep on all disks; acknowledged once all hold them
	exec 4>$ACK_PORT
	number=$(tail -n 1 /mnt/a/log 2>/dev/null)
	number=$((${number:-0} + 1))
	while :; do
		if [ ! -e /run/writer-on ]; then
			: >/run/writer-idle
			pause 0.05
			continue
		fi
		for log in $logs; do
			echo $number >>$log || failed=$log
		done
		# One process for all disks: under TCG each fork costs milliseconds. With files named,
		# sync calls fsync on each and fails if one fails.
		sync $logs || failed="one of $logs"
		if [ -n "$failed" ]; then
			echo "writer: $failed failed at $number"
			failed=
			pause 0.5
		else
			read -r uptime_s _ </proc/uptime
			echo "$number $uptime_s" >&4
			number=$((number + 1))
		fi
		pause 0.2 # without rest one guest takes a third of a processor, under TCG
	done
}

start_writer() {
	touch /run/writer-on
	[ -e /run/writer.pid ] && return 0
	logs=$(echo /mnt/? | sed 's,/mnt/.,&/log,g')
	writer >/dev/console &
	echo $! >/run/writer.pid
}

stop_writer() { # returns once no record is under way; fails if the disks hold it up
	[ -e /run/writer.pid ] || return 0
	rm -f /run/writer-on /run/writer-idle
	tries=0
	while [ ! -e /run/writer-idle ]; do
		tries=$((tries + 1))
		[ $tries -gt 40 ] && return 1
		pause 0.05
	done
}

start_agent() {
	qemu-ga -m virtio-serial -p $AGENT_PORT -t /run >/dev/console &
	echo $! >/run/agent.pid
}

agent_state() { # the letter of /proc/PID/stat, nothing if it does not run
	sed 's/.*) \(.\).*/\1/' "/proc/$(cat /run/agent.pid)/stat" 2>/dev/null
}

await_agent() { # STATE: signals work a moment later
	tries=0
	while [ "$(agent_state)" != "$1" ] && [ $tries -lt 40 ]; do
		tries=$((tries + 1))
		pause 0.05
	done
	[ "$(agent_state)" = "$1" ]
}

obey() { # COMMAND [ARGUMENTS]
	command=$1
	shift
	case $command in
	ping) return 0 ;;
	start) # disks and writer, as a boot without hold=1 does
		mount_disks && { [ "$1" = writer=0 ] || start_writer; } ;;
	agent-stop) kill -STOP "$(cat /run/agent.pid)" && await_agent T ;;
	agent-cont) kill -CONT "$(cat /run/agent.pid)" ;;
	agent-kill) kill -KILL "$(cat /run/agent.pid)" && wait "$(cat /run/agent.pid)"; [ -z "$(agent_state)" ] ;;
	agent-start) start_agent ;;
	agent-windows) # in place of qemu-ga; its argument is what qemu-ga answers to guest-get-fsinfo
		kill -KILL "$(cat /run/agent.pid)" && wait "$(cat /run/agent.pid)" # the port has one user at a time
		echo "$*" >/run/fsinfo
		windows-agent >/dev/console &
		echo $! >/run/agent.pid
		tries=0
		while [ ! -e /run/windows-agent ] && [ $tries -lt 100 ]; do
			tries=$((tries + 1))
			pause 0.05
		done
		[ -e /run/windows-agent ]
		;;
	writer-on) start_writer ;;
	writer-off) stop_writer ;;
	sync) sync ;;
	size) echo $(($(cat /sys/block/$1/size) * 512)) ;;
	fsck) timeout 60 e2fsck -fn /dev/$1 2>&1 ;;
	sh) timeout 10 sh -c "$*" 2>&1 ;;
	*) echo "unknown command"; return 127 ;;
	esac
}

control() { # lines "ID COMMAND ARGUMENTS" -> "ID STATUS OUTPUT"
	exec 3<>$CONTROL_PORT
	while :; do
		if read -r id rest <&3; then
			# To a file, not in $(...): `start` must set variables and own its children.
			# shellcheck disable=SC2086
			obey $rest >/run/output
			status=$?
			echo "$id $status $(tr '\n' ' ' </run/output)" >&3
		else
			pause 0.1 # nobody is connected on the host's side
		fi
	done
}

export PATH=/bin:/sbin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /run /mnt
mkfifo /run/silence
ln -s /proc/self/mounts /etc/mtab
read -r cmdline </proc/cmdline
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console; do
	[ ! -e /lib/modules/$module.ko ] || insmod /lib/modules/$module.ko
done
name_ports
if ! option hold=1; then
	mount_disks || echo "mounting failed"
	option writer=0 || start_writer
fi
option agent=0 || start_agent
echo GUEST_READY
control
