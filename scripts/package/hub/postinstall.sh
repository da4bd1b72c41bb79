#!/bin/sh
set -e
install -d -m 0750 -o langbiang-hub -g langbiang-hub /var/lib/langbiang-hub
install -d -m 0700 -o langbiang-hub -g langbiang-hub /var/backups/langbiang-hub   # a backup holds the authority's key
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
# deb: configure OLD-VERSION; rpm: the number of versions that are installed.
case "$1:$2" in
configure:?*|2:*)
	if [ -d /run/systemd/system ]; then systemctl try-restart langbiang-hub.service || true; fi
	echo "langbiang-hub is upgraded; its data is as it was."
	;;
*)
	cat <<'NEXT'
langbiang-hub is installed. Next:
  sudo systemctl enable --now langbiang-hub && sudo langbiang-hub setup    # prints the link that makes the administrator
NEXT
	;;
esac
