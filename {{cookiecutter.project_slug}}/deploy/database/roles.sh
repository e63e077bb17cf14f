#!/bin/sh
# Makes the database and its two roles; safe to run again, and it sets the passwords anew.
# The variables of psql say where, as somebody who may create roles:
#   PGHOST=db.example.com PGUSER=postgres PGPASSWORD=... DATABASE=shop deploy/database/roles.sh
# Without OWNER_PASSWORD and SERVICE_PASSWORD it makes some, and prints the two addresses.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
# Another user may not enter that folder.
cd /

random() { head -c 36 /dev/urandom | base64 | tr '+/' '-_'; }
from_file() { if [ -n "$1" ]; then cat "$1"; else echo "$2"; fi; }

[ -z "${PASSWORD_FILE:-}" ] || PGPASSWORD=$(cat "$PASSWORD_FILE")
export PGPASSWORD
OWNER_PASSWORD=$(from_file "${OWNER_PASSWORD_FILE:-}" "${OWNER_PASSWORD:-$(random)}")
SERVICE_PASSWORD=$(from_file "${SERVICE_PASSWORD_FILE:-}" "${SERVICE_PASSWORD:-$(random)}")
DATABASE=${DATABASE:-service}
export OWNER_PASSWORD SERVICE_PASSWORD DATABASE

# On the database's own machine root needs no password.
as=
[ -n "${PGHOST:-}" ] || [ "$(id -u)" -ne 0 ] || as='runuser --user postgres --'
# shellcheck disable=SC2086
cat "$folder/roles.sql" "$folder/grants.sql" |
    $as psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="${PGDATABASE:-postgres}" >/dev/null
[ -n "${SERVICE_PASSWORD_FILE:-}" ] || {
    place=${PGHOST:-localhost}:${PGPORT:-5432}/$DATABASE
    echo "DATABASE_URL=postgresql://$DATABASE:$SERVICE_PASSWORD@$place"
    echo "DATABASE_OWNER_URL=postgresql://${DATABASE}_owner:$OWNER_PASSWORD@$place"
}
