#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
# Data stays, but with apt purge.
if [ "$1" = purge ]; then
	rm -rf /var/lib/langbiang-edge
	rmdir /etc/langbiang 2>/dev/null || true
	userdel langbiang-edge 2>/dev/null || true
fi
