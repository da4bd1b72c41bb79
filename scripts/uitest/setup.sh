#!/bin/sh
# Brings what the browser test needs: Chromium from the distribution, and the
# driver of package.json. What is there already is left alone.
set -eu
cd "$(dirname "$0")"
if ! command -v chromium >/dev/null && [ -z "${CHROMIUM:-}" ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "test-ui needs Chromium: sudo apt-get install chromium, or set CHROMIUM to its path" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi
command -v node >/dev/null || { echo "test-ui needs Node.js 20 or newer" >&2; exit 1; }
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --loglevel=error
