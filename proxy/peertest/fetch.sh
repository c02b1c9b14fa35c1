#!/usr/bin/env bash
# Fetches Exim and OpenSMTPD for the integration tests: fetch.sh FOLDER
#
# Debian allows one mail server to be installed at a time, and Postfix is it. So these packages are only unpacked, each
# with the libraries that it needs into a tree of its own below FOLDER (exim4-heavy/, opensmtpd/), and the tests run them
# there by chroot. Nothing is installed. A tree that is complete is left as it is.
set -euo pipefail
cd "${1:?usage: fetch.sh FOLDER}"

# libraries prints the packages that the named ones depend on directly and that hold libraries.
libraries() {
	apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
		sed -n 's/^ *|\{0,1\}Depends: \(z\{0,1\}lib[^ <]*\)$/\1/p'
}

# closure prints the packages and, through all levels, the libraries below them.
closure() {
	local -A seen=()
	local level=("$@") p
	while [ ${#level[@]} -gt 0 ]; do
		printf '%s\n' "${level[@]}"
		for p in "${level[@]}"; do seen[$p]=1; done
		mapfile -t level < <(libraries "${level[@]}" | sort -u | while read -r p; do [ -n "${seen[$p]:-}" ] || echo "$p"; done)
	done
}

fetch() {
	local name=$1 work deb
	shift
	[ ! -e "$name/complete" ] || return 0
	work=$(mktemp -d "$PWD/fetch.XXXXXX")
	chmod 755 "$work"
	local packages
	mapfile -t packages < <(closure "$@")
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}")
	# Where a distribution has /lib as a link to usr/lib, packages still hold both.
	mkdir -p "$work/tree"/usr/{lib,lib64,bin,sbin}
	for deb in lib lib64 bin sbin; do ln -s "usr/$deb" "$work/tree/$deb"; done
	for deb in "$work"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$work/tree"; done
	rm -rf "$work/tree/usr/share"/{doc,man,locale,info,lintian}
	chmod 755 "$work/tree"
	touch "$work/tree/complete"
	rm -rf "$name"
	mv "$work/tree" "$name"
	rm -rf "$work"
}

fetch exim4-heavy exim4-base exim4-daemon-heavy # the light one reads no PROXY header
fetch opensmtpd opensmtpd dash # it delivers through /bin/sh
