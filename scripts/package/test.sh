#!/bin/sh
# make package-test, as root: the packages of this machine's architecture in a Debian
# root of their own. Without systemd there, each unit's ExecStart is run by hand as the
# unit's user. ROOT=DIR keeps the root for another run; SUITE chooses the release.
set -eu
cd "$(dirname "$0")/../.."
NFPM=$1
SUITE=${SUITE:-bookworm}
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
ROOT=${ROOT:-$work/root}
running=
finish() {
	for pid in $running; do kill "$pid" 2>/dev/null || true; done
	umount "$ROOT/proc" 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }
say() { echo "== $*"; }
in_root() { chroot "$ROOT" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
# start UNIT: its ExecStart, as its user; the process id is in $started.
start() {
	command=$(sed -n 's/^ExecStart=//p' "$ROOT/usr/lib/systemd/system/$1.service")
	# shellcheck disable=SC2086
	(exec chroot "$ROOT" env PATH=/usr/bin:/bin setpriv --reuid "$1" --regid "$1" --init-groups --no-new-privs --bounding-set=-all $command >>"$work/$1.log" 2>&1) &
	started=$!
	running="$running $started"
}
stop() { kill -TERM "$1"; wait "$1" || fail "it did not stop well"; }
# until WHAT COMMAND: polls for a minute.
until_() {
	what=$1
	shift
	for _ in $(seq 1 120); do
		if "$@" >"$work/out" 2>&1; then return; fi
		sleep 0.5
	done
	cat "$work/out" "$work"/*.log >&2
	fail "not within a minute: $what"
}
edge() { in_root setpriv --reuid langbiang-edge --regid langbiang-edge --init-groups langbiang-edge "$@"; }

says() { pattern=$1; shift; "$@" 2>&1 | grep -q "$pattern"; }

say "the same commit gives the same bytes"
ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.1.0 "$work/a" >/dev/null 2>&1
ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.1.0 "$work/b" >/dev/null 2>&1
cmp "$work/a/SHA256SUMS" "$work/b/SHA256SUMS" || fail "two builds differ"
cmp "$work/a/apt/dists/stable/Release" "$work/b/apt/dists/stable/Release" || fail "two repositories differ"

say "a signed repository of 0.1.0 and 0.2.0"
export GNUPGHOME="$work/gpg"
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'test of packages' ed25519 sign 1d
APT_KEY=$(gpg --list-keys --with-colons | sed -n 's/^fpr:*\([0-9A-F]*\):/\1/p' | head -1)
export APT_KEY
ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.2.0 "$work/c" >/dev/null
cp "$work"/a/*.deb "$work/c/"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) sh scripts/package/repository.sh "$work/c"

say "a Debian $SUITE root"
if [ ! -e "$ROOT/etc/debian_version" ]; then debootstrap --variant=minbase "$SUITE" "$ROOT" >"$work/debootstrap.log"; fi
mount -t proc proc "$ROOT/proc"
rm -rf "$ROOT/repo" && cp -r "$work/c/apt" "$ROOT/repo"
gpg --export "$APT_KEY" >"$ROOT/etc/apt/langbiang.gpg"
chmod 644 "$ROOT/etc/apt/langbiang.gpg"
echo "deb [signed-by=/etc/apt/langbiang.gpg] file:/repo stable main" >"$ROOT/etc/apt/sources.list.d/langbiang.list"
in_root apt-get -qq update -o Dir::Etc::sourcelist=sources.list.d/langbiang.list -o Dir::Etc::sourceparts=- || fail "apt does not take the repository"

say "install 0.1.0"
in_root apt-get -qq install -y langbiang-hub=0.1.0 langbiang-edge=0.1.0 >"$work/install.log" 2>&1 || { cat "$work/install.log"; fail "install"; }
grep -q "sudo langbiang-edge enroll HUB TOKEN" "$work/install.log" || fail "nothing says what comes next"
in_root id langbiang-edge | grep -q dialout || fail "the agent's user is not in dialout"
[ "$(in_root stat -c %U:%a /var/lib/langbiang-edge)" = langbiang-edge:750 ] || fail "the data folder is another's"
in_root langbiang-hub check --config /etc/langbiang/hub.yaml || fail "the configuration that is shipped"

say "start the hub, enrol, start the agent"
start langbiang-hub
hub=$started
until_ "the hub runs" in_root langbiang-hub setup
line=$(in_root langbiang-hub edges token --edge gate-01 --hub 127.0.0.1 2>/dev/null)
# shellcheck disable=SC2086
in_root ${line#sudo } | tee "$work/enroll.log"
grep -q "enrolled, the hub sees you, clock offset" "$work/enroll.log" || fail "enrolment"
grep -q "^# The agent of this gateway" "$ROOT/etc/langbiang/edge.yaml" || fail "the comments of edge.yaml are gone"
edge check || fail "edge.yaml after the enrolment"
start langbiang-edge
agent=$started
until_ "the agent is connected" says "hub .*: connected" edge status
until_ "everything is safe" says "0 not safe" edge status

say "a backlog, then an upgrade over it"
stop "$hub"
until_ "frames wait for the hub" says "[1-9][0-9]* not safe" edge status
stop "$agent"
before=$(in_root find /var/lib/langbiang-edge/log -type f | sort | head -1)
in_root apt-get -qq install -y langbiang-hub=0.2.0 langbiang-edge=0.2.0 >"$work/upgrade.log" 2>&1 || { cat "$work/upgrade.log"; fail "upgrade"; }
grep -q "langbiang-edge is upgraded" "$work/upgrade.log" || fail "the upgrade says nothing"
in_root langbiang-edge version | grep -q 'v0.2.0' || fail "the version"
in_root test -e "$before" || fail "the log is gone"
grep -q "id: gate-01" "$ROOT/etc/langbiang/edge.yaml" || fail "the configuration is gone"
start langbiang-hub
hub=$started
start langbiang-edge
agent=$started
until_ "the backlog is safe at the hub" says "0 not safe" edge status
in_root langbiang-hub edges certificates | grep -q gate-01 || fail "the hub has forgotten the gateway"

say "stop within 5 seconds"
t=$(date +%s)
stop "$agent"
stop "$hub"
[ $(($(date +%s) - t)) -le 5 ] || fail "it took longer"

say "remove keeps data, purge does not"
in_root apt-get -qq remove -y langbiang-edge langbiang-hub >/dev/null 2>&1
in_root test ! -e /usr/bin/langbiang-edge || fail "the program is still there"
for d in /var/lib/langbiang-edge/log /var/lib/langbiang-edge/identity /var/lib/langbiang-hub/ledger /etc/langbiang/edge.yaml; do
	in_root test -e $d || fail "$d went with the program"
done
in_root apt-get -qq purge -y langbiang-edge langbiang-hub >/dev/null 2>&1
for d in /var/lib/langbiang-edge /var/lib/langbiang-hub /etc/langbiang/edge.yaml /etc/langbiang/hub.yaml; do
	in_root test ! -e $d || fail "$d outlives a purge"
done
if in_root getent passwd langbiang-edge >/dev/null; then fail "the user outlives a purge"; fi
for p in edge hub; do systemd-analyze security --offline=true "scripts/package/langbiang-$p.service" 2>/dev/null | tail -1; done
bash scripts/package/foreign.sh "$NFPM"
echo PASS
