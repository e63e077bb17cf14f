#!/bin/sh
# Writes one dump, complete or not at all, and keeps the newest ones.
# `docker compose run --rm backup`; for restoring see restore.sh.
set -eu

folder=${BACKUP_FOLDER:-/var/lib/postgresql}
kept=${BACKUPS_KEPT:-14}
[ -z "${PASSWORD_FILE:-}" ] || PGPASSWORD=$(cat "$PASSWORD_FILE")
export PGPASSWORD

dump=$folder/$(date -u +%Y-%m-%dT%H%M%SZ).dump
trap 'rm -f "$dump.part"' EXIT
pg_dump --format=custom --no-owner --no-privileges --file="$dump.part"
# A file that cannot be read back is no backup.
pg_restore --list "$dump.part" >/dev/null
mv "$dump.part" "$dump"

find "$folder" -maxdepth 1 -name '*.dump' | sort -r | tail -n "+$((kept + 1))" | while read -r old; do
    rm -- "$old"
done
echo "$dump"
