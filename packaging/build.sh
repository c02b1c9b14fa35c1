#!/usr/bin/env bash
# Builds static binaries and Debian packages for amd64 and arm64, with checksums and the licences of what is linked in.
# Usage: packaging/build.sh [FOLDER [VERSION]]
#
# The same sources and version give the same bytes (SOURCE_DATE_EPOCH, by default the time of the last commit).
# ARCHES="amd64" builds for one of them only; TWICE=1 builds all a second time and fails if a byte differs.
# DEBFULLNAME and DEBEMAIL are who stands in the package as its maintainer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-dist}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}

# Without a tag the version is that of the program, with the time and name of the last commit: a later one is newer.
untagged() {
	local base
	base=$(sed -n 's/^var version = "\(.*\)"$/\1/p' cmd/postern/version.go)
	printf '%s.%s.%s\n' "$base" "$(TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd 2>/dev/null || echo 0)" \
		"$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
}
version=${2:-$(git describe --tags 2>/dev/null || untagged)}
version=${version#v}
rm -f "${out:?}"/postern_* # what an earlier version has left

mkdir -p "$out"
out=$(cd "$out" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
umask 022

go build -trimpath -buildvcs=false -o "$temp/here" ./cmd/postern # prints the manual on this machine

# licences prints those of every module that the program is made of, and of Go's own library.
licences() {
	local module dir file
	printf 'Postern is made with these modules. Their licences follow.\n'
	{
		printf 'Go %s\n' "$(go env GOROOT)"
		go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/postern | sort -u
	} | while read -r module dir; do
		[ -n "$module" ] || continue
		for file in "$dir"/LICENSE* "$dir"/NOTICE* "$dir"/PATENTS*; do
			[ -f "$file" ] || continue
			printf '\n==== %s: %s\n\n' "$module" "$(basename "$file")"
			cat "$file"
		done
	done
}

# build FOLDER: everything, into a folder.
build() {
	local to=$1 arch bin built=()
	mkdir -p "$to/state" # an empty folder, for the Containerfile
	licences >"$to/postern_${version}_licences.txt"
	built+=("postern_${version}_licences.txt")
	for arch in ${ARCHES:-amd64 arm64}; do
		bin=postern_${version}_linux_$arch
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$to/$bin" ./cmd/postern
		packaging/deb.sh "$to/$bin" "$arch" "$version" "$to/postern_${version}_licences.txt" "$to" "$temp/here"
		built+=("$bin" "postern_$(packaging/deb.sh -version "$version")_$arch.deb")
	done
	(cd "$to" && sha256sum "${built[@]}" >SHA256SUMS)
}

build "$out"
if [ "${TWICE:-}" = 1 ]; then
	mkdir "$temp/again"
	build "$temp/again"
	cmp "$out/SHA256SUMS" "$temp/again/SHA256SUMS"
	printf 'built twice, and no byte differs\n' >&2
fi
cat "$out/SHA256SUMS"
