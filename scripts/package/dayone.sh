#!/bin/bash
# make day-one, as root: runs the commands of docs/day-one.md, as they stand there, on a
# server and a gateway of its own (machines.sh), and is done when the alert has come over
# the stream and stands in the hub's API. What is done here and not by the page: the
# packages are laid in the folder, the password is typed, and the line that step 4 prints
# is pasted in step 6.
# Where machines cannot be made it says why, and has checked that the page holds
# together; so does "dayone.sh check" everywhere, which .ci/run calls.
set -euo pipefail
cd "$(dirname "$0")/../.."
NFPM=$1
page=docs/day-one.md
work=$(mktemp -d)
BASE=${BASE:-$PWD/bin/debian-${SUITE:-bookworm}}
# shellcheck source=scripts/package/machines.sh
. scripts/package/machines.sh
began=$SECONDS
background=
finish() {
	for pid in $background; do kill "$pid" 2>/dev/null || true; done
	machines_end
	rm -rf "$work"
}
trap finish EXIT
say() { echo "== $* ($((SECONDS - began))s)"; }
fail() {
	echo "FAIL: $*" >&2
	tail -n 20 "$work"/out.* >&2 2>/dev/null || true
	for m in $machines; do on "$m" journalctl -q --no-pager -n 30 -u 'langbiang-*' >&2 || true; done
	exit 1
}

# The blocks of the page: steps/NN-MACHINE[-terminal], NN counts them.
mkdir "$work/steps"
awk -v dir="$work/steps" '
	/^## [0-9]+\. / { step = $2 + 0; if (step != last + 1) { print "step " step " follows " last > "/dev/stderr"; exit 1 } last = step; next }
	/^## /          { step = 0 }
	/^```sh /       { if (!step) { print "line " NR ": a block outside the steps" > "/dev/stderr"; exit 1 }
	                  file = sprintf("%s/%02d-%02d-%s%s", dir, ++n, step, $2, $3 ? "-" $3 : ""); next }
	/^```/          { file = "" ; next }
	file            { print > file }
	END             { if (last < 5 || last > 15) { print last " steps; 15 at most" > "/dev/stderr"; exit 1 } print last }
' $page >"$work/count" || { echo "FAIL: $page" >&2; exit 1; }
for s in "$work"/steps/*; do bash -n "$s" || { echo "FAIL: $page, block ${s##*/}" >&2; exit 1; }; done
echo "$page: $(cat "$work/count") steps, $(ls "$work/steps" | wc -l) blocks"
if [ "$NFPM" = check ]; then exit 0; fi
if ! why=$(machines_ready); then
	echo "not run: $why"
	exit 0
fi

say "packages, and two bare machines"
ARCHS=$(dpkg --print-architecture) sh scripts/package/build.sh "$NFPM" v0.1.0 "$work/dist" >"$work/out.build" 2>&1 || fail "the packages"
machines_base || fail "debootstrap"
machine server 192.168.1.10 || fail "the server does not start"
machine gateway 192.168.1.20 || fail "the gateway does not start"
cp "$work"/dist/langbiang-hub_*.deb "$work/server/home/an/"
cp "$work"/dist/langbiang-edge_*.deb "$work/gateway/home/an/"

alert() { grep -q '"first-wind"' "$work/out.stream" && grep -q '"critical"' "$work/out.stream"; }
safe() { on gateway langbiang-edge status | grep -q '[1-9][0-9]* frames*, 0 not safe'; }
# until WHAT COMMAND...: polls for two minutes.
until_() {
	what=$1
	shift
	for _ in $(seq 1 240); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.5
	done
	fail "not within two minutes: $what"
}

seen=0
first=$SECONDS
for s in "$work"/steps/*; do
	name=${s##*/}
	step=$(echo "$name" | cut -d- -f2)
	machine=$(echo "$name" | cut -d- -f3)
	out=$work/out.$name
	if [ "$step" != "$seen" ]; then
		seen=$step
		say "$(sed -n "s/^## $((10#$step))\. /$((10#$step)). /p" $page)"
	fi
	# The line of the token is pasted as it was printed.
	sed -i "s|^sudo langbiang-edge enroll .*|$(grep -h '^sudo langbiang-edge enroll' "$work"/out.*-04-server 2>/dev/null || echo 'echo no line; false')|" "$s"
	cp "$s" "$work/$machine/home/an/block"
	case $name in
	*-terminal)
		# A second terminal; Ctrl-C for what ran there before.
		for pid in $(pgrep --ns "$(inside "$machine")" --nslist pid -f '^langbiang-edge simulate' || true); do kill -INT "$pid"; done
		if [[ $machine = server ]]; then out=$work/out.stream; fi
		cp "$s" "$work/$machine/home/an/terminal-$name"
		as_an "$machine" "/home/an/terminal-$name" >"$out" 2>&1 </dev/null &
		background="$background $!"
		if [[ $machine = gateway ]]; then until_ "the station answers" on gateway bash -c ': </dev/tcp/127.0.0.1/5020'; fi
		;;
	*)
		echo 'a password for day one' | as_an "$machine" /home/an/block >"$out" 2>&1 || fail "$name"
		if [ "$step" = 09 ]; then until_ "readings are safe at the hub" safe; fi
		sed 's/^/   /' "$out" | grep -v '^   \(Reading\|Building\|Selecting\|(Reading\|Preparing\|Unpacking\|Get:\)' | cut -c1-160 | tail -n 12
		;;
	esac
done
until_ "the alert is in the stream" alert
say "the alert has come"
grep -m1 '"first-wind"' "$work/out.stream" | cut -c1-400
cat >"$work/server/home/an/alerts" <<'SH'
curl -sS --fail --cacert authority.pem -H "Authorization: Bearer $(cat ioc.token)" "https://192.168.1.10:8443/api/v1/alerts?rule=first-wind&state=active"
SH
as_an server /home/an/alerts >"$work/out.alerts" 2>&1 || fail "the API"
for want in '"first-wind"' '"critical"' '"24848"' '"lac-duong-01"' '26.0 m/s'; do
	grep -q "$want" "$work/out.alerts" || fail "the alert in the API has no $want"
done
# The link of the screen opens the page; the readings were there before.
grep -q '"wind_speed"' "$work"/out.*-11-server || fail "no reading was seen at the hub"
grep -q '^https://192.168.1.10:8443/login?next=%2F%23%2Fwall#kiosk=' "$work"/out.*-10-server || fail "no link for the screen"
say "PASS: $(cat "$work/count") steps from bare machines to the alert in $((SECONDS - first))s of commands"
