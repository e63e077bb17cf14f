#!/usr/bin/env bash
# Installs this checkout on this machine and starts it; run it again for every new version.
# Safe to run twice. When the new version is not ready in time, the one before is started again.
set -euo pipefail
cd "$(dirname "$0")/../.."

# An empty prefix is the real machine; tests give a folder.
prefix=${PREFIX:-}
ready_within_seconds=${READY_WITHIN_SECONDS:-60}
releases_kept=3

name=$(sed -n 's/^name = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
home=$prefix/opt/$name
settings=$prefix/etc/$name
units=$prefix/etc/systemd/system
socket=$prefix/run/$name.socket
packages=(app server doctor manage)
shipped=("${packages[@]}" migrations alembic.ini gunicorn.conf.py pyproject.toml uv.lock)

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$*" >&2
    exit 1
}

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
        sed "s/^ENVIRONMENT=/SERVICE_NAME=$name\n&/" deploy/systemd/app.env >"$settings/app.env"
    }
    [ -e "$settings/secrets.env" ] || (
        umask 077
        say "SECRET_KEY=$(head -c 48 /dev/urandom | base64 | tr -d '\n')" >"$settings/secrets.env"
    )
    grep -q '^DATABASE_URL=.' "$settings/secrets.env" ||
        die "Write DATABASE_URL=postgresql://... into $settings/secrets.env, then run this again."
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
    touch "$release/.complete"
}

install_units() {
    install -d "$units" "$units/nginx.service.d"
    install -m 0644 deploy/systemd/app.service "$units/$name.service"
    install -m 0644 deploy/systemd/app.socket "$units/$name.socket"
    sed "s/NAME/$name/g" deploy/systemd/nginx.service.conf >"$units/nginx.service.d/$name.conf"
    systemctl daemon-reload
    systemctl enable --quiet --now "$name.socket"
    systemctl enable --quiet "$name.service"
}

install_nginx() {
    install -d "$settings/nginx"
    cp -r deploy/nginx/nginx.conf deploy/nginx/http deploy/nginx/server "$settings/nginx"
    # site/ is the machine's own: written once, then yours.
    if [ ! -d "$settings/nginx/site" ]; then
        cp -r deploy/nginx/site "$settings/nginx/site"
        sed "s/NAME/$name/g" deploy/systemd/nginx-site/upstream.conf >"$settings/nginx/site/upstream.conf"
    fi
    systemctl reload-or-restart nginx.service
}

migrate() {
    systemd-run --quiet --wait --pipe --collect --uid="$name" --gid="$name" \
        --working-directory="$release" \
        --property=EnvironmentFile="$settings/app.env" \
        --property=EnvironmentFile="$settings/secrets.env" \
        "$release/.venv/bin/manage" migrate
}

is_ready() {
    "$1/.venv/bin/python" - "$socket" <<'PYTHON'
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

activate() {
    ln -sfn "$1" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    systemctl restart "$name.service" || return
    local until=$((SECONDS + ready_within_seconds))
    while [ "$SECONDS" -lt "$until" ]; do
        is_ready "$1" && return
        sleep 0.5
    done
    return 1
}

remove_old_releases() {
    # The names are ours, hexadecimal: nothing in them can go wrong.
    # shellcheck disable=SC2012
    ls -dt "$home"/releases/* | tail -n "+$((releases_kept + 1))" | while read -r old; do
        [ "$old" -ef "$home/current" ] || rm -rf "$old"
    done
}

check_machine
make_user
write_settings
build_release
install_units
migrate
before=$(readlink "$home/current" || true)
if activate "$release"; then
    install_nginx
    touch "$release"
    remove_old_releases
    say "$name runs ${release##*/}."
elif [ -n "$before" ] && [ "$before" != "$release" ] && activate "$before"; then
    die "${release##*/} was not ready within $ready_within_seconds s; ${before##*/} runs again. See: journalctl -u $name"
else
    die "${release##*/} was not ready within $ready_within_seconds s. See: journalctl -u $name"
fi
