#!/bin/sh
# Fails when pkg/web/dist is not what pkg/web/app builds: the build is the same
# on every machine, so the two are compared byte by byte.
set -eu
cd "$(dirname "$0")/../../pkg/web/app"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --loglevel=error
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
npx tsc --noEmit
npx vite build --logLevel warn --outDir "$built" --emptyOutDir
if ! diff -rq "$built" ../dist; then
	echo "pkg/web/dist is not what pkg/web/app builds: run make page and commit what comes out" >&2
	exit 1
fi
