#!/bin/sh
# make package: static binaries, deb and rpm for amd64, arm64 and armv7, checksums, and
# an apt repository in dist/apt, signed when APT_KEY names a key of gpg.
# The same commit gives the same bytes: SOURCE_DATE_EPOCH is that of the commit.
set -eu
cd "$(dirname "$0")/../.."
NFPM=$1 VERSION=$2 DIST=${3:-dist}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# A deb's version begins with a digit; one that no tag names sorts before every release.
PACKAGE_VERSION=${PACKAGE_VERSION:-$(case "$VERSION" in v[0-9]*) echo "${VERSION#v}" ;; *) echo "0.0.0~git$SOURCE_DATE_EPOCH.$VERSION" ;; esac)}
export SOURCE_DATE_EPOCH PACKAGE_VERSION
rm -rf "$DIST"
mkdir -p "$DIST"
LDFLAGS="-s -w -buildid= -X main.version=$VERSION"

for arch in ${ARCHS:-amd64 arm64 armv7}; do
	goarch=$arch nfpm_arch=$arch
	if [ "$arch" = armv7 ]; then goarch=arm nfpm_arch=arm7; fi
	for p in edge hub; do
		flags=
		if [ "$p" = edge ]; then flags=$(cat scripts/package/edge-flags); fi
		name=langbiang-$p
		dir=$DIST/bin/linux-$arch
		# shellcheck disable=SC2086
		CGO_ENABLED=0 GOOS=linux GOARCH=$goarch GOARM=7 go build -trimpath -buildvcs=false $flags -ldflags "$LDFLAGS" -o "$dir/$name" "./cmd/$p"
		touch -d "@$SOURCE_DATE_EPOCH" "$dir/$name"
		for kind in deb rpm; do
			NFPM_ARCH=$nfpm_arch BINARY=$dir/$name "$NFPM" package --config "scripts/package/nfpm-$p.yaml" --packager $kind --target "$DIST/" >/dev/null
		done
	done
	# For machines without packages: an OpenWrt router, a container.
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$DIST/bin/linux-$arch" -cf - langbiang-edge -C "$PWD/scripts/package" edge.yaml langbiang-edge.procd | gzip -9n >"$DIST/langbiang-edge_${PACKAGE_VERSION}_linux_$arch.tar.gz"
done

sh scripts/package/repository.sh "$DIST"
(cd "$DIST" && find . -type f \( -name '*.deb' -o -name '*.rpm' -o -name '*.tar.gz' -o -path './bin/*' \) ! -path './apt/*' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
echo "$DIST: $(ls "$DIST" | grep -c -E 'deb$|rpm$') packages of $PACKAGE_VERSION, checksums in $DIST/SHA256SUMS"
