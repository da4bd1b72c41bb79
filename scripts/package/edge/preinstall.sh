#!/bin/sh
set -e
if ! getent passwd langbiang-edge >/dev/null; then
	getent group langbiang-edge >/dev/null || groupadd --system langbiang-edge
	useradd --system --gid langbiang-edge --home-dir /var/lib/langbiang-edge --no-create-home --shell /usr/sbin/nologin langbiang-edge
fi
# Serial ports belong to this group.
if getent group dialout >/dev/null; then usermod -a -G dialout langbiang-edge; fi
