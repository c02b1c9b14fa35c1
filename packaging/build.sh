#!/usr/bin/env bash
# Builds static binaries and Debian packages for amd64 and arm64, with checksums. Usage: packaging/build.sh [FOLDER [VERSION]]
# The same sources and version give the same bytes (SOURCE_DATE_EPOCH, by default the time of the last commit).
# ARCHES="amd64" builds for one of them only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-dist}
version=${2:-$(git describe --tags --always 2>/dev/null || echo 0)}
case $version in [0-9]*) debian=$version ;; *) debian=0~$version ;; esac
debian=${debian//-/+}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
umask 022

go build -trimpath -buildvcs=false -o "$temp/here" ./cmd/postern # makes the manual on this machine
built=()
for arch in ${ARCHES:-amd64 arm64}; do
	bin=$out/postern_${version}_linux_$arch
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$bin" ./cmd/postern
	root=$temp/$arch
	install -D -m 755 "$bin" "$root/usr/bin/postern"
	install -D -m 644 docs/examples/systemd/postern.service "$root/lib/systemd/system/postern.service"
	install -D -m 644 docs/examples/systemd/postern.sysusers.conf "$root/usr/lib/sysusers.d/postern.conf"
	install -D -m 644 docs/examples/systemd/postern.tmpfiles.conf "$root/usr/lib/tmpfiles.d/postern.conf"
	install -D -m 644 docs/examples/logrotate/postern "$root/etc/logrotate.d/postern"
	install -d "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
		"$root/usr/share/fish/vendor_completions.d" "$root/usr/share/doc/postern" "$root/etc/postern" "$root/DEBIAN"
	"$temp/here" manual man | gzip -9n >"$root/usr/share/man/man1/postern.1.gz"
	"$temp/here" manual bash >"$root/usr/share/bash-completion/completions/postern"
	"$temp/here" manual zsh >"$root/usr/share/zsh/vendor-completions/_postern"
	"$temp/here" manual fish >"$root/usr/share/fish/vendor_completions.d/postern.fish"
	cp -r docs/*.md docs/examples "$root/usr/share/doc/postern/"
	install -m 644 LICENSE "$root/usr/share/doc/postern/copyright"
	printf '/etc/logrotate.d/postern\n' >"$root/DEBIAN/conffiles"
	sed -e "s/@VERSION@/$debian/" -e "s/@ARCH@/$arch/" packaging/control >"$root/DEBIAN/control"
	for script in postinst prerm postrm; do install -m 755 "packaging/$script" "$root/DEBIAN/$script"; done
	chmod -R u+rwX,go=rX "$root"
	find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz -b "$root" "$out/postern_${debian}_$arch.deb" >/dev/null
	built+=("$(basename "$bin")" "postern_${debian}_$arch.deb")
done
(cd "$out" && sha256sum "${built[@]}" >SHA256SUMS && cat SHA256SUMS)
