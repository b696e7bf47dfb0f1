#!/bin/sh
# Installs with apt-get the commands that the tests run and that a clean Debian
# or Ubuntu may lack. Does nothing, and needs no rights, where all are there.
set -eu

# COMMAND PACKAGE. A command that came from elsewhere counts as present. Two are
# libraries.
wanted='
curl curl
openssl openssl
ssh-keygen openssh-client
minisign minisign
gpg gnupg
strace strace
mariadbd mariadb-server-core
my_print_defaults mariadb-client-core
libgalera_smm.so galera-4
cc gcc
libc6-dev libc6-dev
softhsm2-util softhsm2
'

missing=$(echo "$wanted" | while read -r command package; do
	[ -n "$command" ] || continue
	command -v "$command" >/dev/null 2>&1 || dpkg -s "$package" >/dev/null 2>&1 || echo "$package"
done)

if [ -z "$missing" ]; then
	echo "debian.sh: everything is installed"
	exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 || {
		echo "debian.sh: not root and no sudo here; install by hand:" $missing >&2
		exit 1
	}
	as_root=sudo
fi

echo "debian.sh: installing" $missing
$as_root apt-get update
# The list is split into words on purpose.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
