#!/bin/bash
# Packages for other machines, as root: what arm64 and armv7 get, run under qemu; the rpm
# in a root with a database of its own; the init script of OpenWrt in busybox's shell.
# Needs qemu-user-static, rpm and busybox of Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."
NFPM=$1
work=$(mktemp -d)
BASE=${BASE:-$PWD/bin/debian-${SUITE:-bookworm}}
# shellcheck source=scripts/package/machines.sh
. scripts/package/machines.sh
running=
finish() {
	for pid in $running; do kill "$pid" 2>/dev/null || true; done
	rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work"/*.log >&2 || true; exit 1; }
say() { echo "== $*"; }
for tool in qemu-aarch64-static qemu-arm-static rpm busybox; do
	command -v $tool >/dev/null || fail "needs $tool (Debian: qemu-user-static rpm busybox)"
done
machines_base
ARCHS="amd64 arm64 armv7" sh scripts/package/build.sh "$NFPM" v0.1.0 "$work/a" >/dev/null 2>&1
ARCHS=amd64 sh scripts/package/build.sh "$NFPM" v0.2.0 "$work/b" >/dev/null 2>&1

until_() {
	what=$1
	shift
	for _ in $(seq 1 240); do
		if "$@" >"$work/until.log" 2>&1; then return; fi
		sleep 0.5
	done
	fail "not within two minutes: $what"
}
says() {
	pattern=$1
	shift
	"$@" >"$work/says.log" 2>&1 || true
	grep -q "$pattern" "$work/says.log"
}

for pair in "arm64 arm64 aarch64" "armv7 armhf arm"; do
	read -r name deb machine <<<"$pair"
	say "$name: the deb installs, and its program runs under qemu"
	root=$work/root-$name
	cp -a --reflink=auto "$BASE" "$root"
	# The scripts of the package run by this machine's shell; apt asks for dependencies of any architecture.
	chroot "$root" dpkg --add-architecture "$deb"
	cp "$work"/a/langbiang-*_0.1.0_"$deb".deb "$root/"
	chroot "$root" sh -c "PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /langbiang-edge_0.1.0_$deb.deb /langbiang-hub_0.1.0_$deb.deb" >"$work/install.log" 2>&1 || fail "the deb of $name does not install"
	[ "$(chroot "$root" dpkg-query -W -f '${Architecture} ${Status}' "langbiang-edge:$deb")" = "$deb install ok installed" ] || fail "not installed"
	for p in edge hub; do
		file=$root/usr/bin/langbiang-$p
		cmp "$file" "$work/a/bin/linux-$name/langbiang-$p" || fail "another program"
		says "langbiang-$p v0.1.0 linux/arm" "qemu-$machine-static" "$file" version || fail "$file does not run"
	done
	says "fine: .* rules" "qemu-$machine-static" "$root/usr/bin/langbiang-hub" check --config "$root/etc/langbiang/hub.yaml" || fail "the hub's configuration"
	edge() { "qemu-$machine-static" "$root/usr/bin/langbiang-edge" "$@" --config "$work/$name.yaml"; }
	cat >"$work/$name.yaml" <<-YAML
		edge: {id: gate-01}
		data_dir: $work/$name
		hub: {url: "mqtt://127.0.0.1:1"}
		connections:
		  - {id: bus-1, modbus: {transport: rtu, port: /dev/ttyUSB0, baud: 9600}}
		  - {id: cabinet, modbus: {transport: tcp, address: "127.0.0.1:5020"}}
		devices:
		  - {id: power, profile: peacefair/pzem-016, connection: bus-1, interval: 1s}
		  - {id: air, profile: renke/cwt-uwd, connection: cabinet, unit: 1, interval: 1s}
	YAML
	edge check >"$work/check.log" 2>&1 || fail "check"
	(exec "qemu-$machine-static" "$root/usr/bin/langbiang-edge" simulate --config "$work/$name.yaml") >"$work/simulate.log" 2>&1 &
	running="$running $!"
	simulated=$!
	until_ "the devices are served" test -e "$work/$name-simulated/simulation.json"
	(exec "qemu-$machine-static" "$root/usr/bin/langbiang-edge" run --simulated --config "$work/$name.yaml") >"$work/run.log" 2>&1 &
	running="$running $!"
	agent=$!
	until_ "both devices are read, one over a serial port" says "power.*good" edge read --simulated
	until_ "readings stand in the log" says "[1-9][0-9]* frames*, [1-9][0-9]* not safe" edge status --simulated
	says "ok    version" edge doctor --simulated || fail "doctor"
	kill -TERM "$agent"
	wait "$agent" || fail "the agent does not stop well"
	says '"point":"wind_direction"' edge queue dump --simulated || fail "the log has no readings"
	kill -TERM "$simulated"
	wait "$simulated" || fail "simulate does not stop well"
	rm -rf "$root"
done

say "rpm: what it asks for, marks and runs"
rpmfile() { echo "$work/$1/langbiang-$2-0.$3.0-1.x86_64.rpm"; }
edge1=$(rpmfile a edge 1) hub1=$(rpmfile a hub 1) edge2=$(rpmfile b edge 2) hub2=$(rpmfile b hub 2)
rpm -K --nosignature "$edge1" "$hub1" >"$work/rpm.log" || fail "digests"
says '^shadow-utils' rpm -qp --requires "$edge1" || fail "requires"
says '^/etc/langbiang/edge.yaml' rpm -qp --configfiles "$edge1" || fail "edge.yaml is no configuration"
says '^/etc/langbiang/rules/air.yaml' rpm -qp --configfiles "$hub1" || fail "the rules are no configuration"
says '^/etc/langbiang/edge.yaml 17$' rpm -qp --qf '[%{FILENAMES} %{FILEFLAGS}\n]' "$edge1" || fail "edge.yaml is not config(noreplace)"
[ "$(rpm -qp --qf '%{BUILDHOST} %{BUILDTIME}' "$edge2")" = "langbiang $(git log -1 --format=%ct)" ] || fail "the rpm tells where and when it was built"
for f in "$work"/a/*aarch64.rpm "$work"/a/*armv7hl.rpm; do rpm -qp --qf '%{NAME} %{ARCH} %{OS}\n' "$f" >>"$work/rpm.log" || fail "$f"; done

say "rpm: install, upgrade, remove"
root=$work/root-rpm
cp -a --reflink=auto "$BASE" "$root"
# Debian's root stands in for shadow-utils and /bin/sh: their names are not in this database.
r() { rpm --root "$root" --dbpath /var/lib/rpm --nodeps --nosignature "$@" >"$work/rpm.log" 2>&1 || fail "rpm $*"; }
r -i "$edge1" "$hub1"
grep -q "sudo langbiang-edge enroll HUB TOKEN" "$work/rpm.log" || fail "nothing says what comes next"
chroot "$root" id langbiang-edge | grep -q dialout || fail "the agent's user is not in dialout"
[ "$(chroot "$root" stat -c '%U:%G:%a' /var/lib/langbiang-edge)" = langbiang-edge:langbiang-edge:750 ] || fail "the data folder"
[ "$(chroot "$root" stat -c '%U:%G:%a' /etc/langbiang/edge.yaml)" = root:langbiang-edge:640 ] || fail "edge.yaml"
chroot "$root" langbiang-hub check >"$work/check.log" 2>&1 || fail "the configuration that is shipped"
echo "# mine" >>"$root/etc/langbiang/edge.yaml"
touch "$root/var/lib/langbiang-edge/log-of-mine"
r -U "$edge2" "$hub2"
grep -q "langbiang-edge is upgraded" "$work/rpm.log" || fail "the upgrade says nothing"
says v0.2.0 chroot "$root" langbiang-edge version || fail "the version"
grep -q "# mine" "$root/etc/langbiang/edge.yaml" || fail "the upgrade changed edge.yaml"
r -e langbiang-edge langbiang-hub
[ ! -e "$root/usr/bin/langbiang-edge" ] || fail "the program is still there"
[ -e "$root/var/lib/langbiang-edge/log-of-mine" ] || fail "the data went with the program"
grep -q "# mine" "$root/etc/langbiang/edge.yaml.rpmsave" || fail "edge.yaml went with the program"

say "OpenWrt: the init script in busybox's shell, procd recorded"
sh -n scripts/package/langbiang-edge.procd
cat >"$work/rc.common" <<'SH'
# A stand-in of /etc/rc.common: it says what procd would be told.
procd_open_instance() { echo open; }
procd_set_param() { echo "$@"; }
procd_close_instance() { echo close; }
procd_send_signal() { echo signal "$@"; }
script=$1 action=$2
. "$script"
[ "$USE_PROCD" = 1 ] || exit 1
case $action in
start) start_service ;;
stop) if type stop_service >/dev/null 2>&1; then stop_service; fi; echo killed ;;
reload) reload_service ;;
esac
SH
procd() { busybox ash "$work/rc.common" scripts/package/langbiang-edge.procd "$1"; }
[ "$(procd start)" = "open
command /usr/bin/langbiang-edge run --config /etc/langbiang/edge.yaml
env GOMEMLIMIT=40MiB
limits nofile=1024 1024
no_new_privs 1
respawn 3600 5 0
stderr 1
term_timeout 15
close" ] || fail "start: $(procd start)"
[ "$(procd stop)" = killed ] || fail "stop"
[ "$(procd reload)" = "signal langbiang-edge * HUP" ] || fail "reload"
tar -tzf "$work"/a/langbiang-edge_0.1.0_linux_armv7.tar.gz >"$work/tar.log"
for f in edge.yaml langbiang-edge langbiang-edge.procd; do grep -qx "$f" "$work/tar.log" || fail "the tar has no $f"; done
say "other machines: fine"
