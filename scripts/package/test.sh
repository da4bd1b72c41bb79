#!/bin/bash
# make package-test, as root: the packages of this machine's architecture on a Debian
# machine that boots systemd (machines.sh); then foreign.sh for the others and the rpm.
# OLD=REVISION builds the version that is upgraded from an older commit, else it is
# today's under another number. SUITE chooses the release.
set -euo pipefail
cd "$(dirname "$0")/../.."
NFPM=$1
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
BASE=${BASE:-$PWD/bin/debian-${SUITE:-bookworm}}
# shellcheck source=scripts/package/machines.sh
. scripts/package/machines.sh
machines_ready
finish() {
	machines_end
	[ ! -e "$work/old" ] || git worktree remove --force "$work/old"
	rm -rf "$work"
}
trap finish EXIT
fail() {
	echo "FAIL: $*" >&2
	on box journalctl -q --no-pager -n 40 >&2 2>/dev/null || true
	exit 1
}
say() { echo "== $*"; }
box() { on box "$@"; }
# until WHAT COMMAND: polls for two minutes.
until_() {
	what=$1
	shift
	for _ in $(seq 1 240); do
		if "$@" >"$work/out" 2>&1; then return; fi
		sleep 0.5
	done
	cat "$work/out" >&2
	fail "not within two minutes: $what"
}
says() {
	pattern=$1
	shift
	"$@" >"$work/says" 2>&1 || true
	grep -q "$pattern" "$work/says"
}
main_pid() { box systemctl show -P MainPID "$1"; }
# readings: how many of the log's; samples: how many of the store's, of the same series.
readings() { { box langbiang-edge queue dump | grep -o '"point":"illuminance"' || true; } | wc -l; }
samples() { box langbiang-hub export 'illuminance{edge="gate-01"}' | grep -c 'gate-01' || true; }

say "the same commit gives the same bytes"
ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.2.0 "$work/a" >/dev/null 2>&1
ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.2.0 "$work/b" >/dev/null 2>&1
cmp "$work/a/SHA256SUMS" "$work/b/SHA256SUMS" || fail "two builds differ"
cmp "$work/a/apt/dists/stable/Release" "$work/b/apt/dists/stable/Release" || fail "two repositories differ"
(cd "$work/a" && sha256sum --quiet -c SHA256SUMS) || fail "the checksums"

say "a signed repository of 0.1.0 (${OLD:-the same commit}) and 0.2.0"
export GNUPGHOME="$work/gpg"
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'test of packages' ed25519 sign 1d 2>/dev/null
APT_KEY=$(gpg --list-keys --with-colons 2>/dev/null | sed -n 's/^fpr:*\([0-9A-F]*\):/\1/p' | head -1)
export APT_KEY
if [ -n "${OLD:-}" ]; then
	git worktree add --detach --quiet "$work/old" "$OLD"
	(cd "$work/old" && ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.1.0 "$work/c" >/dev/null 2>&1)
else
	ARCHS=$arch sh scripts/package/build.sh "$NFPM" v0.1.0 "$work/c" >/dev/null 2>&1
fi
cp "$work"/a/*.deb "$work/c/"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) sh scripts/package/repository.sh "$work/c"

say "a Debian machine"
machines_base
machine box 192.168.2.10
root=$work/box
cp -r "$work/c/apt" "$root/repo"
gpg --export "$APT_KEY" >"$root/etc/apt/langbiang.gpg"
chmod 644 "$root/etc/apt/langbiang.gpg"
echo "deb [signed-by=/etc/apt/langbiang.gpg] file:/repo stable main" >"$root/etc/apt/sources.list.d/langbiang.list"
update() {
	rm -rf "$root"/var/lib/apt/lists/*repo* # else apt does not look again
	box apt-get update --error-on=any -o Dir::Etc::sourcelist=sources.list.d/langbiang.list -o Dir::Etc::sourceparts=- >"$work/update.log" 2>&1
}

say "apt refuses what another key signed, what was changed, and what nobody signed"
update || { cat "$work/update.log"; fail "apt does not take the repository"; }
refuses() {
	if update; then fail "apt takes $1"; fi
	rm -rf "$root/repo" && cp -r "$work/c/apt" "$root/repo"
}
sed -i 's/^Origin: Langbiang/Origin: Somebody/' "$root/repo/dists/stable/InRelease"
refuses "a Release that was changed"
echo >>"$root/repo/dists/stable/main/binary-$arch/Packages"
rm "$root/repo/dists/stable/main/binary-$arch/Packages.gz"
refuses "a list of packages that was changed"
rm "$root/repo/dists/stable/InRelease" "$root/repo/dists/stable/Release.gpg"
refuses "a repository without a signature"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'another' ed25519 sign 1d 2>/dev/null
gpg --batch --yes --local-user another --clearsign -o "$root/repo/dists/stable/InRelease" "$root/repo/dists/stable/Release" 2>/dev/null
refuses "another's signature"
update || fail "apt does not take the repository again"
printf 'x' | dd of="$root/repo/pool/langbiang-edge_0.1.0_$arch.deb" bs=1 seek=4000 conv=notrunc 2>/dev/null
if box apt-get install -y langbiang-edge=0.1.0 >/dev/null 2>&1; then fail "apt installs a package that was changed"; fi
rm -rf "$root/repo" && cp -r "$work/c/apt" "$root/repo"

say "install 0.1.0"
box apt-get install -y langbiang-hub=0.1.0 langbiang-edge=0.1.0 >"$work/install.log" 2>&1 || { cat "$work/install.log"; fail "install"; }
grep -q "sudo langbiang-edge enroll HUB TOKEN" "$work/install.log" || fail "nothing says what comes next"
says dialout box id langbiang-edge || fail "the agent's user is not in dialout"
[ "$(box stat -c %U:%a /var/lib/langbiang-edge)" = langbiang-edge:750 ] || fail "the data folder is another's"
box langbiang-hub check || fail "the configuration that is shipped"

say "start the hub, enrol, add a device, start the agent"
box systemctl enable --now langbiang-hub 2>/dev/null
until_ "the hub runs" box langbiang-hub setup
line=$(box langbiang-hub edges token --edge gate-01 --hub 127.0.0.1 2>/dev/null)
# shellcheck disable=SC2086
box ${line#sudo } >"$work/enroll.log" || { cat "$work/enroll.log"; fail "enrolment"; }
grep -q "enrolled, the hub sees you, clock offset" "$work/enroll.log" || fail "enrolment"
grep -q "^# The agent of this gateway" "$root/etc/langbiang/edge.yaml" || fail "the comments of edge.yaml are gone"
# The device is served by today's program, whichever version is tested.
cp "$work/a/bin/linux-$arch/langbiang-edge" "$root/usr/local/bin/station"
box systemd-run --quiet --unit=station /usr/local/bin/station simulate profile renke/cwt-uwd --at 127.0.0.1:5020
sed -i 's#^connections: \[\]#connections:\n  - {id: cabinet, modbus: {transport: tcp, address: "127.0.0.1:5020", timeout: 1s}}#; s#^devices: \[\]#devices:\n  - {id: air, profile: renke/cwt-uwd, connection: cabinet, unit: 1, interval: 1s}#' "$root/etc/langbiang/edge.yaml"
box langbiang-edge check || fail "edge.yaml after the enrolment"
box systemctl enable --now langbiang-edge 2>/dev/null
until_ "the agent is connected" says "hub .*: connected" box langbiang-edge status
in_store_is_some() { [ "$(samples)" -gt 0 ]; }
until_ "readings stand in the store" in_store_is_some

say "a backlog, then an upgrade over it"
box systemctl stop langbiang-hub
until_ "frames wait for the hub" says "[1-9][0-9]* not safe" box langbiang-edge status
waiting=$(box langbiang-edge status | sed -n 's/.* \([0-9]*\) not safe.*/\1/p')
enough_wait() { [ "$(readings)" -ge 5 ]; }
until_ "readings stand in the log" enough_wait
before=$(readings)
pid=$(main_pid langbiang-edge)
box apt-get install -y langbiang-hub=0.2.0 langbiang-edge=0.2.0 >"$work/upgrade.log" 2>&1 || { cat "$work/upgrade.log"; fail "upgrade"; }
grep -q "langbiang-edge is upgraded" "$work/upgrade.log" || fail "the upgrade says nothing"
says v0.2.0 box langbiang-edge version || fail "the version"
[ "$(main_pid langbiang-edge)" != "$pid" ] || fail "the old agent still runs"
if box systemctl is-active --quiet langbiang-hub; then fail "the upgrade starts a hub that was stopped"; fi
grep -q "id: gate-01" "$root/etc/langbiang/edge.yaml" || fail "the configuration is gone"
upgraded=$(date "+%Y-%m-%d %H:%M:%S")
box systemctl start langbiang-hub
box systemctl stop station
box systemctl restart langbiang-edge # what it had read is committed
in_log=$(readings)
in_store_is_all() { [ "$(samples)" = "$in_log" ]; }
until_ "all that stands in the log stands in the store" in_store_is_all
says gate-01 box langbiang-hub edges certificates || fail "the hub has forgotten the gateway"
in_store=$(samples)
echo "   $waiting frames waited; readings in the log: $before before the upgrade, $in_log at the end; samples in the store: $in_store"
[ "$in_log" -ge "$before" ] || fail "the log lost readings"

say "reload, and stop within 5 seconds"
box systemctl start langbiang-edge
until_ "the agent runs again" says "hub .*: connected" box langbiang-edge status
for unit in langbiang-hub langbiang-edge; do
	pid=$(main_pid $unit)
	box systemctl reload $unit || fail "reload of $unit"
	[ "$(main_pid $unit)" = "$pid" ] || fail "a reload of $unit is a restart"
	box systemctl is-active --quiet $unit || fail "$unit does not run"
done
# What the hardening must leave: whether the clock is synchronised can be asked.
if says "cannot say whether its clock" box journalctl -u langbiang-hub --since "$upgraded"; then fail "the unit's filter forbids adjtimex"; fi
t=$(date +%s)
box systemctl stop langbiang-edge langbiang-hub
[ $(($(date +%s) - t)) -le 5 ] || fail "it took longer"
for unit in langbiang-hub langbiang-edge; do [ "$(box systemctl show -P Result $unit)" = success ] || fail "$unit did not stop well"; done

say "remove keeps data, purge does not"
box apt-get remove -y langbiang-edge langbiang-hub >/dev/null 2>&1
box test ! -e /usr/bin/langbiang-edge || fail "the program is still there"
for d in /var/lib/langbiang-edge/log /var/lib/langbiang-edge/identity /var/lib/langbiang-hub/ledger /etc/langbiang/edge.yaml; do
	box test -e $d || fail "$d went with the program"
done
box apt-get purge -y langbiang-edge langbiang-hub >/dev/null 2>&1
for d in /var/lib/langbiang-edge /var/lib/langbiang-hub /etc/langbiang/edge.yaml /etc/langbiang/hub.yaml; do
	box test ! -e $d || fail "$d outlives a purge"
done
if box getent passwd langbiang-edge >/dev/null; then fail "the user outlives a purge"; fi

say "systemd-analyze security, below 2.0"
for p in edge hub; do
	systemd-analyze security --offline=true "scripts/package/langbiang-$p.service" 2>/dev/null | tail -1 | tee "$work/security"
	grep -q ' [01]\.[0-9] ' "$work/security" || fail "langbiang-$p is exposed more than it may be"
done
bash scripts/package/foreign.sh "$NFPM"
echo PASS
