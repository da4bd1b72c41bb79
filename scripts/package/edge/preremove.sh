#!/bin/sh
set -e
# deb: remove or upgrade; rpm: 0 when the last version goes. An upgrade restarts afterwards.
case "$1" in
remove|0)
	if [ -d /run/systemd/system ]; then systemctl disable --now langbiang-edge.service || true; fi
	;;
esac
