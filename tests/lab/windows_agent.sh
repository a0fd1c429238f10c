#!/bin/sh
# A guest agent that behaves as the real one does on Windows, where VSS lets go of a freeze by itself after
# 10 s: the status goes on saying "frozen" until somebody thaws, and that thaw answers an error and ends it.
# The file systems are really frozen and thawed, so that what was written meanwhile can be found.
# /run/fsinfo holds the answer to guest-get-fsinfo (one line), taken from the real agent before.

AGENT_PORT=/dev/virtio-ports/org.qemu.guest_agent.0
HOLD_S=10
EXPIRED="couldn't hold writes: fsfreeze is limited up to 10 seconds"
FROZEN=/run/vss-frozen
LET_GO=/run/vss-let-go

answer() { # JSON
	printf '%s\n' "$1" >&3
}

refuse() { # DESCRIPTION
	answer "{\"error\": {\"class\": \"GenericError\", \"desc\": \"$1\"}}"
}

each() { # --freeze or --unfreeze; sets count
	count=0
	for folder in /mnt/?; do
		fsfreeze "$1" "$folder" && count=$((count + 1))
	done
}

let_go_later() {
	sleep $HOLD_S
	: >$LET_GO
	each --unfreeze
}

freeze() {
	if [ -e $FROZEN ]; then
		refuse "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"
		return
	fi
	rm -f $LET_GO
	each --freeze
	: >$FROZEN
	let_go_later &
	timer=$!
	answer "{\"return\": $count}"
}

thaw() {
	if [ ! -e $FROZEN ]; then
		answer '{"return": 0}'
		return
	fi
	rm -f $FROZEN
	kill "$timer" 2>/dev/null
	if [ -e $LET_GO ]; then
		refuse "$EXPIRED"
	else
		each --unfreeze
		answer "{\"return\": $count}"
	fi
}

obey() { # LINE
	id=$(printf '%s' "$1" | sed -n 's/.*"id": *\([0-9]*\).*/\1/p')
	case $1 in
	*guest-sync-delimited*) printf '\377' >&3 && answer "{\"return\": $id}" ;;
	*guest-sync*) answer "{\"return\": $id}" ;;
	*guest-ping*) answer '{"return": {}}' ;;
	*guest-get-time*) answer "{\"return\": $(date +%s)000000000}" ;;
	*guest-fsfreeze-status*) if [ -e $FROZEN ]; then answer '{"return": "frozen"}'; else answer '{"return": "thawed"}'; fi ;;
	*guest-fsfreeze-freeze*) freeze ;;
	*guest-fsfreeze-thaw*) thaw ;;
	*guest-get-fsinfo*)
		if [ -e $FROZEN ]; then
			refuse "Command guest-get-fsinfo has been disabled: the agent is in frozen state"
		else
			answer "$(cat /run/fsinfo)"
		fi
		;;
	*) refuse "The command is not known here" ;;
	esac
}

export PATH=/bin:/sbin
exec 3<>$AGENT_PORT
# What was meant for the agent before: its late answers would be taken for those to newer requests.
while read -r -t 0.2 line <&3; do :; done
: >/run/windows-agent
while :; do
	if read -r line <&3; then
		obey "$line"
	else
		sleep 0.1 # nobody is connected on the host's side
	fi
done
