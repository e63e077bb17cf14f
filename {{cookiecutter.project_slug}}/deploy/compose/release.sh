#!/usr/bin/env bash
# A new version without a gap: its container serves before the old one leaves, and when it does not
# come up, the old one stays. `deploy/compose/release.sh`, from any folder.
# An earlier one: `TAG=1.4.2 deploy/compose/release.sh --no-build`, an image that was kept.
set -euo pipefail
# As for `docker compose` itself, a COMPOSE_FILE of the shell counts from where one stands.
[ -n "${COMPOSE_FILE:-}" ] || cd "$(dirname "$0")"

# A worker of nginx that leaves closes connections 2 s after their last request (nginx-site/http.conf).
nginx_has_switched_within_seconds=4
# nginx asks Docker's name server every 2 s (nginx-site/http.conf).
nginx_knows_names_within_seconds=5
# stop_grace_period in compose.yaml.
stop_seconds=40

# The name means a container from before it listens until it is gone, and 2 s more: requests went to
# an address where nobody answers, and no second try finds another one, as the list has changed
# meanwhile (504). So nginx asks those that serve, by address. Reads what changed in deploy/nginx too.
# shellcheck disable=SC2016
by_address='for id; do
    address=$(getent hosts "$id")
    echo "server ${address%% *}:8000;"
done >/tmp/released.conf
nginx -t -q || { rm /tmp/released.conf; exit 1; }
nginx -s reload'

ask_only() {
    # Docker knows a container by the first 12 characters of its id.
    # shellcheck disable=SC2046
    docker compose exec -T nginx sh -euc "$by_address" sh $(cut -c -12 <<<"$1")
    sleep "$nginx_has_switched_within_seconds"
}

ask_by_name() {
    sleep "$nginx_knows_names_within_seconds"
    docker compose exec -T nginx sh -euc 'rm -f /tmp/released.conf; nginx -s reload'
}

[ "${1:-}" = --no-build ] || docker compose build service
docker compose up --detach --wait postgres
docker compose run --rm migrate

old=$(docker compose ps --quiet service)
if [ -z "$old" ]; then
    exec docker compose up --detach --wait
fi

ask_only "$old"
trap ask_by_name EXIT
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

ask_only "$new"
# shellcheck disable=SC2086
docker stop --time "$stop_seconds" $old
# shellcheck disable=SC2086
docker rm $old
# It finishes what it runs; what is enqueued meanwhile waits for the new one.
docker compose up --detach --no-deps jobs
