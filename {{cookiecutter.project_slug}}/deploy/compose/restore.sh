#!/bin/sh
# Brings a dump back, all of it or nothing; without a name the newest one.
# `docker compose stop service jobs`, then `docker compose run --rm restore [--replace] [FILE]`.
set -eu

folder=${BACKUP_FOLDER:-/var/lib/postgresql}
grants=${GRANTS:-/database/grants.sql}
[ -z "${PASSWORD_FILE:-}" ] || PGPASSWORD=$(cat "$PASSWORD_FILE")
export PGPASSWORD

replace=no
if [ "${1:-}" = --replace ]; then
    replace=yes
    shift
fi
dump=${1:-$(find "$folder" -maxdepth 1 -name '*.dump' | sort | tail -n 1)}
[ -f "$dump" ] || {
    echo "There is no backup ${dump:-in $folder}." >&2
    exit 1
}

tables=$(psql --no-psqlrc --tuples-only --no-align --command \
    "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public'")
if [ "$tables" -gt 0 ] && [ "$replace" = no ]; then
    echo "The database holds $tables tables: add --replace to drop them first." >&2
    exit 1
fi

# Numbers of events now mean others than before: who resumes from one of them is told so.
# An older dump has no such table.
new_epochs="DO 'BEGIN IF to_regclass(''event_head'') IS NOT NULL THEN
    UPDATE event_head SET epoch = DEFAULT; END IF; END';"

sql() {
    echo 'BEGIN; SET client_min_messages = warning;'
    echo 'DROP SCHEMA public CASCADE; CREATE SCHEMA public;'
    # COMMIT only when the dump was read to its end.
    pg_restore --no-owner --no-privileges --file=- "$dump" &&
        # The dump leaves no name to search in.
        echo 'SET search_path = public;' && cat "$grants" && echo "$new_epochs" &&
        echo "COMMIT; SELECT 'committed';"
}
done=$(sql | psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
    --set=service="$PGDATABASE" | tail -n 1)
[ "$done" = committed ] || {
    echo "Nothing was changed: $dump cannot be restored." >&2
    exit 1
}
echo "Restored $dump."
