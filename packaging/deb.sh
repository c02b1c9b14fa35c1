#!/usr/bin/env bash
# Makes a Debian package of a program that is built. packaging/build.sh calls it.
# Usage: packaging/deb.sh PROGRAM ARCH VERSION LICENCES FOLDER [MANUAL]
#        packaging/deb.sh -version VERSION      prints the version as Debian writes it
#
# MANUAL is the same program for this machine, if PROGRAM is for another one. COMPRESS is none, gzip, zstd or xz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022

# 1.2.3-rc1 comes before 1.2.3, and 1.2.3-4-gabc, four commits after it, behind.
debian_version() {
	local v=$1
	if [[ $v =~ ^(.*)-([0-9]+)-(g[0-9a-f]+)$ ]]; then v=${BASH_REMATCH[1]}+${BASH_REMATCH[2]}.${BASH_REMATCH[3]}; fi
	v=${v/-/\~}
	printf '%s\n' "${v//-/.}"
}
if [ "${1:-}" = -version ]; then
	debian_version "$2"
	exit
fi
program=$1 arch=$2 debian=$(debian_version "$3") licences=$4 out=$5 manual=${6:-$1}
maintainer="${DEBFULLNAME:-Postern} <${DEBEMAIL:-postmaster@localhost}>"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
doc=$root/usr/share/doc/postern

install -D -m 755 "$program" "$root/usr/bin/postern"
install -D -m 644 docs/examples/systemd/postern.service "$root/usr/lib/systemd/system/postern.service"
install -D -m 644 docs/examples/systemd/postern.sysusers.conf "$root/usr/lib/sysusers.d/postern.conf"
install -D -m 644 docs/examples/systemd/postern.tmpfiles.conf "$root/usr/lib/tmpfiles.d/postern.conf"
install -D -m 644 docs/examples/logrotate/postern "$root/etc/logrotate.d/postern"
install -D -m 644 packaging/lintian-overrides "$root/usr/share/lintian/overrides/postern"
install -d "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
	"$root/usr/share/fish/vendor_completions.d" "$doc" "$root/etc/postern" "$root/DEBIAN"
"$manual" manual man | gzip -9n >"$root/usr/share/man/man1/postern.1.gz"
"$manual" manual bash >"$root/usr/share/bash-completion/completions/postern"
"$manual" manual zsh >"$root/usr/share/zsh/vendor-completions/_postern"
"$manual" manual fish >"$root/usr/share/fish/vendor_completions.d/postern.fish"

cp -r docs/*.md docs/examples "$doc/"
gzip -9nc CHANGELOG.md >"$doc/CHANGELOG.md.gz"
gzip -9nc "$licences" >"$doc/modules.txt.gz"
printf 'postern (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$debian" "$maintainer" \
	"$(LC_ALL=C TZ=UTC date -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')" | gzip -9nc >"$doc/changelog.gz"
install -m 644 packaging/copyright "$doc/copyright"

printf '/etc/logrotate.d/postern\n' >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "packaging/$script" "$root/DEBIAN/$script"; done
chmod -R u+rwX,go=rX "$root"
sed -e "s/@VERSION@/$debian/" -e "s/@ARCH@/$arch/" -e "s/@MAINTAINER@/$maintainer/" \
	-e "s/@SIZE@/$(find "$root" -type f ! -path '*/DEBIAN/*' -printf '%s\n' | awk '{n += $1} END {print int(n / 1024) + 1}')/" packaging/control >"$root/DEBIAN/control"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f ! -path './etc/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group "-Z${COMPRESS:-xz}" -b "$root" "$out/postern_${debian}_$arch.deb" >/dev/null
