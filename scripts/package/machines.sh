# Debian machines for a test, sourced by test.sh and dayone.sh, as root: each boots
# systemd in namespaces of this machine (systemd-nspawn), with a network that joins them
# and nothing else. The caller has set $work, a folder of its own, and calls machines_end
# when it exits. BASE=DIR is a Debian root to copy; it is made when it is not there.
SUITE=${SUITE:-bookworm}
machines=

machines_ready() {
	[ "$(id -u)" = 0 ] || { echo "machines need root"; return 1; }
	for tool in debootstrap systemd-nspawn ip nsenter; do
		command -v $tool >/dev/null || { echo "machines need $tool (Debian: debootstrap systemd-container iproute2)"; return 1; }
	done
}

# machines_base: the root that every machine is a copy of.
machines_base() {
	if [ ! -e "$BASE/etc/debian_version" ]; then
		rm -rf "$BASE.new"
		debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,sudo,curl,ca-certificates "$SUITE" "$BASE.new" >"$work/debootstrap.log" || { tail "$work/debootstrap.log"; return 1; }
		rm -f "$BASE.new"/var/cache/apt/archives/*.deb
		mv "$BASE.new" "$BASE"
	fi
}

# machine NAME ADDRESS: boots one, with a user an who may use sudo.
machine() {
	cp -a --reflink=auto "$BASE" "$work/$1"
	rm -f "$work/$1/etc/machine-id"
	echo "$1" >"$work/$1/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$1" >"$work/$1/etc/hosts"
	chroot "$work/$1" useradd --create-home --shell /bin/bash an
	echo "an ALL=(ALL) NOPASSWD: ALL" >"$work/$1/etc/sudoers.d/an"
	net=lb$$
	if [ -z "$machines" ]; then
		ip netns add $net
		ip -n $net link add bridge type bridge
		ip -n $net link set bridge up
	fi
	machines="$machines $1"
	ip netns add "$net-$1"
	ip -n $net link add "$1" type veth peer name eth0 netns "$net-$1"
	ip -n $net link set "$1" master bridge up
	ip -n "$net-$1" link set lo up
	ip -n "$net-$1" address add "$2/24" dev eth0
	ip -n "$net-$1" link set eth0 up
	flags=
	if [ ! -d /run/systemd/system ]; then flags="--register=no --keep-unit"; fi
	# The clock may be asked whether it is synchronised, as on a machine of its own.
	# shellcheck disable=SC2086
	systemd-nspawn --quiet --directory="$work/$1" --machine="lb$$-$1" --boot $flags --network-namespace-path="/run/netns/$net-$1" \
		--console=pipe --system-call-filter=@clock </dev/null >"$work/$1.console" 2>&1 &
	echo $! >"$work/$1.pid"
	for _ in $(seq 1 600); do
		case "$(on "$1" systemctl is-system-running 2>/dev/null)" in running | degraded) return 0 ;; esac
		sleep 0.2
	done
	cat "$work/$1.console"
	return 1
}

# inside NAME: the process id, here, of the init there.
inside() { pgrep -P "$(cat "$work/$1.pid")" | head -1; }

# on NAME COMMAND...: as root there. as_an NAME FILE: a file of commands, as a person.
on() {
	on_pid=$(inside "$1")
	shift
	nsenter -t "$on_pid" -m -u -i -n -p -C -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
as_an() { on "$1" runuser -u an -- env -i -C /home/an HOME=/home/an PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash -e -o pipefail "$2"; }

machines_end() {
	for m in $machines; do
		pid=$(cat "$work/$m.pid" 2>/dev/null) || continue
		inner=$(inside "$m")
		[ -z "$inner" ] || kill -KILL "$inner" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
		ip netns del "lb$$-$m" 2>/dev/null || true
	done
	[ -z "$machines" ] || ip netns del "lb$$" 2>/dev/null || true
}
