#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
# Data stays, but with apt purge.
if [ "$1" = purge ]; then
	rm -rf /var/lib/langbiang-hub
	rmdir /var/backups/langbiang-hub 2>/dev/null || true # backups stay
	rmdir /etc/langbiang 2>/dev/null || true
	userdel langbiang-hub 2>/dev/null || true
fi
