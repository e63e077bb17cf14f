#!/usr/bin/env bash
# Installs this checkout on this machine and hands the service over to it; run it again for every new
# version. Safe to run twice. When the new version is not ready in time, the one before has never left.
# `install.sh --back` hands over to the version before, without a migration.
set -euo pipefail
cd "$(dirname "$0")/../.."

# An empty prefix is the real machine; tests give a folder.
prefix=${PREFIX:-}
ready_within_seconds=${READY_WITHIN_SECONDS:-60}
releases_kept=3

name=$(sed -n 's/^name = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
domain=$(sed -n 's/^server_name \([^ ;]*\).*/\1/p' deploy/nginx/site/server_name.conf)
home=$prefix/opt/$name
settings=$prefix/etc/$name
units=$prefix/etc/systemd/system
packages=(app server doctor manage)
shipped=("${packages[@]}" migrations alembic.ini gunicorn.conf.py pyproject.toml uv.lock)

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$*" >&2
    exit 1
}
# Our files with this service's names in them.
named() { sed -e "s/NAME/$name/g" -e "s/DOMAIN/$domain/g" -e "s/RELEASE/${release##*/}/g" "$1"; }

check_machine() {
    [ "$(id -u)" -eq 0 ] || die "Run this as root: it makes a user, units and folders."
    local tool
    for tool in uv systemctl nginx; do
        PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || die "$tool is missing: install it first."
    done
    [ "${#name}" -le 32 ] || die "A Linux user has at most 32 letters: shorten the name in pyproject.toml."
    local owner
    owner=$(getent passwd "$name" | cut -d: -f6) || true
    [ -z "$owner" ] || [ "$owner" = "/opt/$name" ] ||
        die "The user $name exists and belongs to something else: change the name in pyproject.toml."
}

make_user() {
    getent passwd "$name" >/dev/null ||
        useradd --system --user-group --no-create-home --home-dir "/opt/$name" \
            --shell /usr/sbin/nologin "$name"
}

write_settings() {
    install -d -m 0755 "$settings"
    [ -e "$settings/app.env" ] || {
        sed -e "s/^ENVIRONMENT=/SERVICE_NAME=$name\n&/" -e "s/DOMAIN/$domain/" \
            deploy/systemd/app.env >"$settings/app.env"
    }
    [ -e "$settings/secrets.env" ] || (
        umask 077
        say "SECRET_KEY=$(head -c 48 /dev/urandom | base64 | tr -d '\n')" >"$settings/secrets.env"
        : >"$settings/owner.env"
    )
    grep -q '^DATABASE_URL=.' "$settings/secrets.env" ||
        die "Write DATABASE_URL=postgresql://... into $settings/secrets.env, then run this again."
    grep -q '^DATABASE_OWNER_URL=.' "$settings/owner.env" ||
        die "Write DATABASE_OWNER_URL=postgresql://... into $settings/owner.env, then run this again."
}

build_release() {
    # The name is the content, so the same checkout is built once.
    release=$home/releases/$(find "${shipped[@]}" -type f ! -name '*.pyc' -exec sha256sum {} + |
        LC_ALL=C sort | sha256sum | cut -c 1-12)
    [ -e "$release/.complete" ] && return
    rm -rf "$release"
    install -d "$home" "$home/releases" "$release"
    cp -r "${shipped[@]}" "$release"
    # Not a Python below somebody's home, which the unit cannot see.
    (cd "$release" && UV_PYTHON_PREFERENCE=only-system UV_PYTHON_DOWNLOADS=never \
        UV_PROJECT_ENVIRONMENT=.venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy \
        uv sync --quiet --locked --no-dev --no-editable)
    # Installed in .venv; a second copy would win on the import path.
    (cd "$release" && rm -rf "${packages[@]}")
    ln -s "/etc/$name/app.env" "$release/.env"
    touch "$release/.complete"
}

install_units() {
    install -d "$units"
    install -m 0644 deploy/systemd/app@.service "$units/$name@.service"
    install -m 0644 deploy/systemd/app@.socket "$units/$name@.socket"
    named "deploy/systemd/jobs@.service" >"$units/$name-jobs@.service"
    # It wakes the version before until this one serves.
    [ -e "$units/$name.socket" ] || named deploy/systemd/app.socket >"$units/$name.socket"
    named deploy/systemd/nginx.service >"$units/$name-nginx.service"
    named deploy/systemd/manage.sh >"$home/manage"
    chmod 0755 "$home/manage"
    systemctl daemon-reload
    systemctl enable --quiet --now "$name.socket"
}

install_nginx() {
    install -d "$settings/nginx"
    cp -r deploy/nginx/nginx.conf deploy/nginx/http deploy/nginx/server "$settings/nginx"
    # site/ is the machine's own: written once, then yours. A newer version may bring one file more.
    local file
    for file in deploy/nginx/site/*; do
        [ ! -d "$settings/nginx/site" ] || [ -e "$settings/nginx/site/${file##*/}" ] ||
            cp "$file" "$settings/nginx/site"
    done
    if [ ! -d "$settings/nginx/site" ]; then
        cp -r deploy/nginx/site "$settings/nginx/site"
        for file in deploy/systemd/nginx-site/*; do
            named "$file" >"$settings/nginx/site/${file##*/}"
        done
    fi
    systemctl enable --quiet "$name-nginx.service"
    systemctl reload-or-restart "$name-nginx.service"
    install_site
}

install_site() {
    local folder=$prefix/etc/nginx/conf.d
    [ ! -d "$prefix/etc/nginx/sites-enabled" ] || folder=$prefix/etc/nginx/sites-enabled
    [ -e "$folder/$name.conf" ] || {
        install -d "$folder"
        named deploy/systemd/site.conf >"$folder/$name.conf"
        systemctl reload-or-restart nginx.service || {
            rm "$folder/$name.conf"
            die "The machine's nginx does not take the site of $name: run nginx -t. Its other sites go on."
        }
    }
}

migrate() {
    systemd-run --quiet --wait --pipe --collect --uid="$name" --gid="$name" \
        --working-directory="$release" \
        --property=EnvironmentFile="$settings/secrets.env" \
        --property=EnvironmentFile="$settings/owner.env" \
        "$release/.venv/bin/manage" migrate
}

is_ready() {
    "$release/.venv/bin/python" - "$prefix/run/$name/${release##*/}.socket" <<'PYTHON'
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(5)
    try:
        connection.connect(sys.argv[1])
        connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        sys.exit(b" 200 " not in connection.recv(64))
    except OSError:
        sys.exit(1)
PYTHON
}

start() {
    systemctl is-active --quiet "$name@${release##*/}.service" && {
        systemctl reload "$name@${release##*/}.service"
        return
    }
    systemctl enable --quiet --now "$name@${release##*/}.service" || return
    local until=$((SECONDS + ready_within_seconds))
    while [ "$SECONDS" -lt "$until" ]; do
        is_ready && return
        sleep 0.5
    done
    return 1
}

# It finishes what it has begun, for up to 40 s; the others take what comes.
stop() { systemctl disable --quiet --now "$name@$1.service" "$name@$1.socket" "$name-jobs@$1.service"; }

hand_over() {
    local before
    before=$(readlink "$home/current" || true)
    if ! start; then
        stop "${release##*/}"
        die "${release##*/} was not ready within $ready_within_seconds s; ${before:+${before##*/} still serves. }See: journalctl --unit '$name@*'"
    fi
    named deploy/systemd/app.socket >"$units/$name.socket"
    systemctl daemon-reload
    systemctl enable --quiet "$name-jobs@${release##*/}.service"
    systemctl reload-or-restart "$name-jobs@${release##*/}.service"
    touch "$release"
    [ "$before" != "$release" ] || return 0
    ln -sfn "$release" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    [ -z "$before" ] || {
        ln -sfn "$before" "$home/previous"
        stop "${before##*/}"
    }
}

remove_old_releases() {
    # The names are ours, hexadecimal: nothing in them can go wrong.
    # shellcheck disable=SC2012
    ls -dt "$home"/releases/* | tail -n "+$((releases_kept + 1))" | while read -r old; do
        [ "$old" -ef "$home/current" ] || [ "$old" -ef "$home/previous" ] || rm -rf "$old"
    done
}

check_machine
if [ "${1:-}" = --back ]; then
    release=$(readlink "$home/previous") || die "There is no version before."
    install_units
    hand_over
else
    make_user
    write_settings
    build_release
    install_units
    migrate || die "The migration failed, see above; what served before still serves."
    hand_over
    install_nginx
    remove_old_releases
fi
say "$name runs ${release##*/}."
