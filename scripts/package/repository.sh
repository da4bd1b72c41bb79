#!/bin/sh
# repository.sh DIST: DIST/apt, an apt repository of the debs in DIST: pool, dists/stable
# with Packages and Release, and InRelease and Release.gpg when APT_KEY names a key.
set -eu
cd "$1"
rm -rf apt
mkdir -p apt/pool
cp -p -- *.deb apt/pool/
cd apt
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")
archs=
for deb in pool/*.deb; do archs="$archs $(dpkg-deb -f "$deb" Architecture)"; done
archs=$(echo "$archs" | tr ' ' '\n' | sort -u | tr '\n' ' ')
for arch in $archs; do
	dir=dists/stable/main/binary-$arch
	mkdir -p "$dir"
	for deb in pool/*_"$arch".deb; do
		dpkg-deb -f "$deb"
		echo "Filename: $deb"
		echo "Size: $(stat -c %s "$deb")"
		echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"
		echo
	done >"$dir/Packages"
	gzip -9nk "$dir/Packages"
done
cd dists/stable
{
	echo "Origin: Langbiang"
	echo "Label: Langbiang"
	echo "Suite: stable"
	echo "Codename: stable"
	echo "Architectures: $archs"
	echo "Components: main"
	echo "Date: $date"
	echo "SHA256:"
	find main -type f | LC_ALL=C sort | while read -r f; do
		echo " $(sha256sum "$f" | cut -d' ' -f1) $(stat -c %s "$f") $f"
	done
} >Release
if [ -n "${APT_KEY:-}" ]; then
	gpg --batch --yes --local-user "$APT_KEY" --clearsign -o InRelease Release
	gpg --batch --yes --local-user "$APT_KEY" --armor --detach-sign -o Release.gpg Release
else
	echo "apt repository not signed: APT_KEY names no key" >&2
fi
