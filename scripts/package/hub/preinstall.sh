#!/bin/sh
set -e
if ! getent passwd langbiang-hub >/dev/null; then
	getent group langbiang-hub >/dev/null || groupadd --system langbiang-hub
	useradd --system --gid langbiang-hub --home-dir /var/lib/langbiang-hub --no-create-home --shell /usr/sbin/nologin langbiang-hub
fi
