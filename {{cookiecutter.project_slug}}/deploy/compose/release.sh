#!/usr/bin/env bash
# A new version without a gap: its container serves before the old one leaves, and when it does not
# come up, the old one stays. `deploy/compose/release.sh`, from any folder.
# An earlier one: `TAG=1.4.2 deploy/compose/release.sh --no-build`, an image that was kept.
set -euo pipefail
# As for `docker compose` itself, a COMPOSE_FILE of the shell counts from where one stands.
[ -n "${COMPOSE_FILE:-}" ] || cd "$(dirname "$0")"

# nginx asks Docker's name server every 2 s (nginx-site/http.conf).
nginx_knows_within_seconds=5
# stop_grace_period in compose.yaml.
stop_seconds=40

[ "${1:-}" = --no-build ] || docker compose build service
docker compose up --detach --wait postgres
docker compose run --rm migrate

old=$(docker compose ps --quiet service)
if [ -z "$old" ]; then
    exec docker compose up --detach --wait
fi

count=$(wc -l <<<"$old")
started=yes
docker compose up --detach --wait --no-deps --no-recreate --scale "service=$((count * 2))" service ||
    started=no
new=$(docker compose ps --all --quiet service | grep --invert-match --line-regexp --fixed-strings "$old" || true)
if [ "$started" = no ]; then
    # shellcheck disable=SC2086
    docker rm --force $new
    echo "The new version did not come up; the one before still serves." >&2
    exit 1
fi

sleep "$nginx_knows_within_seconds"
# shellcheck disable=SC2086
docker stop --time "$stop_seconds" $old
# shellcheck disable=SC2086
docker rm $old
# What changed in deploy/nginx; a broken file changes nothing.
docker compose exec -T nginx nginx -t -q
docker compose exec -T nginx nginx -s reload
