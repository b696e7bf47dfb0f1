#!/bin/sh
# Makes the passwords of docker-compose.yml and writes them into files below a
# directory:
#
#   sh secrets.sh DIRECTORY
#
# A container sees a secret with the owner and the mode that its file has, and
# sigstack refuses a secret that others may read. So each file belongs to the
# user in the container that reads it, and this runs as root. It replaces nothing.
set -eu

dir=$1
sigstack=65532:65532 # USER in the Dockerfile

# Hexadecimal digits need no quotes, in a DSN and in an option file.
password() { head -c 32 /dev/urandom | od -A n -v -t x1 | tr -d ' \n'; }

# hash PASSWORD: SHA-1 of SHA-1, which is what MariaDB keeps. Its container gets
# nothing else: it copies what it is given into its environment.
hash() {
	once=$(printf %s "$1" | sha1sum | cut -c 1-40)
	twice=$(for byte in $(echo "$once" | sed 's/../& /g'); do
		# The escape is made out of the byte.
		# shellcheck disable=SC2059
		printf "\\$(printf %03o "0x$byte")"
	done | sha1sum | cut -c 1-40)
	echo "*$twice" | tr a-f A-F
}

# The DSN is written last: with it everything is there.
if [ -e "$dir/sigstack-dsn" ]; then
	echo "secrets.sh: $dir/sigstack-dsn is there; nothing was changed"
	exit 0
fi

mkdir -p "$dir"
umask 077
user=$(password)
root=$(password)
hash "$user" >"$dir/db-password-hash"
hash "$root" >"$dir/db-root-password-hash"
echo "$root" >"$dir/db-root-password"
printf '[client]\nhost=db\nuser=sigstack\npassword=%s\n' "$user" >"$dir/db-client"
echo "sigstack:$user@tcp(db:3306)/sigstack" >"$dir/sigstack-dsn.new"
chown "$sigstack" "$dir/sigstack-dsn.new"
mv "$dir/sigstack-dsn.new" "$dir/sigstack-dsn"
echo "secrets.sh: made the passwords in $dir"
