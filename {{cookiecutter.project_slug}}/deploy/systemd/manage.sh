#!/bin/sh
# `manage` of the release in use, with the user, the settings and the limits of the service; installed
# as /opt/NAME/manage by install.sh.
exec systemd-run --quiet --wait --collect --pty --pipe --uid=NAME --gid=NAME --slice=NAME.slice \
    --working-directory="$(readlink -f /opt/NAME/current)" \
    --property=EnvironmentFile=/etc/NAME/secrets.env \
    /opt/NAME/current/.venv/bin/manage "$@"
