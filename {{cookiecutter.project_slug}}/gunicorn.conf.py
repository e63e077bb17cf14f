"""Hands the settings to gunicorn, which finds this file without -c.

The numbers and their reasons are in `server/settings.py`.
"""

import logging
import os

from gunicorn.arbiter import Arbiter

from server.arbiter import Master
from server.capacity import GENERATIONS, plan_capacity
from server.exporter import Exporter
from server.handover import child_exit, mark_old, pre_fork  # noqa: F401 (gunicorn's hooks)
from server.logs import logging_config
from server.machine import read_machine
from server.worker import Worker

settings = Worker.configure()
plan = plan_capacity(settings, read_machine(), settings.web_concurrency)

wsgi_app = "app.main:create_app()"
# Default: sync, which cannot run an ASGI app.
worker_class = "server.worker.Worker"

bind = f"{settings.app_host}:{settings.app_port}"
workers = plan.workers
# So that all workers agree; gunicorn takes it back before a reload, which plans anew.
# https://gunicorn.org/reference/settings/#raw_env
raw_env = [f"WEB_CONCURRENCY={plan.workers}", f"DATABASE_POOL_SIZE={plan.pool_size}"]
backlog = settings.server_backlog
keepalive = settings.server_keepalive_seconds
timeout = settings.server_timeout_seconds
graceful_timeout = settings.server_graceful_timeout_seconds
max_requests = settings.server_max_requests
max_requests_jitter = settings.max_requests_jitter
forwarded_allow_ips = settings.forwarded_allow_ips
logconfig_dict = logging_config(settings)

# The heartbeat changes a file's time; on a busy disk that can block the event loop.
# Default: the temporary directory. https://gunicorn.org/reference/settings/#worker_tmp_dir
if os.access("/dev/shm", os.W_OK):  # noqa: S108 (gunicorn unlinks the file it opens)
    worker_tmp_dir = "/dev/shm"  # noqa: S108

# A socket below $HOME that the next gunicorn of the same user takes over. Default: False.
# https://gunicorn.org/reference/settings/#control_socket_disable
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    # Gunicorn has no setting for it.
    server.__class__ = Master
    Master.exporter = Exporter.prepare(settings, plan.workers * GENERATIONS)
    plan.record()
    log = logging.getLogger("gunicorn.error")
    level = logging.ERROR if plan.shortages else logging.INFO
    log.log(level, "%s", plan)
    if os.fork() == 0:
        # In a process of its own: what the master has imported is never read again at a reload.
        from doctor.start import tell_what_is_wrong  # noqa: PLC0415

        tell_what_is_wrong(log)


def on_reload(server: Arbiter) -> None:
    plan.record()
    mark_old(server)
