#!/bin/sh
set -e
install -d -m 0750 -o langbiang-edge -g langbiang-edge /var/lib/langbiang-edge
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
# deb: configure OLD-VERSION; rpm: the number of versions that are installed.
case "$1:$2" in
configure:?*|2:*)
	if [ -d /run/systemd/system ]; then systemctl try-restart langbiang-edge.service || true; fi
	echo "langbiang-edge is upgraded; its data is as it was."
	;;
*)
	cat <<'NEXT'
langbiang-edge is installed. Next, with the line from the hub (langbiang-hub edges token):
  sudo langbiang-edge enroll HUB TOKEN && sudo systemctl enable --now langbiang-edge
NEXT
	;;
esac
