"""Code of gunicorn, Uvicorn and asyncpg that is no public interface, and that ours relies upon.

When an upgrade changes one of them, a test fails: read what changed, look at the place that is
named, run `make test-system`, and write the new version and digest here.
"""

import hashlib
import inspect
import pkgutil
from importlib.metadata import version

import pytest

TESTED = {"gunicorn": "27.0.1", "uvicorn": "0.54.0", "uvicorn-worker": "0.4.0", "asyncpg": "0.32.0"}

ARBITER = "gunicorn.arbiter:Arbiter."
SERVER = "uvicorn.server:"
HTTP = "uvicorn.protocols.http.httptools_impl:"
SOCKETS = "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol."
# Each with the place that relies on it.
INTERNALS = {
    f"{ARBITER}__init__": (
        "server/arbiter.py: its class is exchanged in on_starting",
        "53b20d752bbb",
    ),
    f"{ARBITER}run": (
        "server/arbiter.py: looks handlers up by name, manages each second",
        "1ddfab9d644f",
    ),
    f"{ARBITER}handle_term": ("server/arbiter.py: INT does the same", "93d583480a66"),
    f"{ARBITER}handle_hup": ("server/arbiter.py: only when nothing is wrong", "50de80005cd6"),
    f"{ARBITER}reload": (
        "server/handover.py: sets num_workers, on_reload, forks, waits by age",
        "fec344d2f774",
    ),
    f"{ARBITER}setup": ("server/arbiter.py: part of what is tried first", "9eb391c82c19"),
    f"{ARBITER}stop": ("server/arbiter.py: a second INT is quick", "7138b6afd9c4"),
    f"{ARBITER}manage_workers": (
        "server/arbiter.py, handover.py: stops the lowest age",
        "518f2dd040ef",
    ),
    f"{ARBITER}spawn_worker": (
        "server/arbiter.py, handover.py: pre_fork, then WORKERS",
        "6abc0d90b0b9",
    ),
    f"{ARBITER}reap_workers": ("server/handover.py: child_exit after WORKERS.pop", "ebcf4187e9eb"),
    f"{ARBITER}murder_workers": ("server/worker.py: ABRT, and KILL a second later", "3f8fbfdf473f"),
    "gunicorn.workers.base:Worker.__init__": ("server/worker.py: ppid, age, tmp", "e0f1de2d6057"),
    "gunicorn.workers.base:Worker.init_process": (
        "server/worker.py: load_wsgi, then run",
        "114caccd7a0e",
    ),
    "gunicorn.workers.workertmp:WorkerTmp": (
        "server/worker.py: is_serving reads its time",
        "2e6b7f316807",
    ),
    "gunicorn.app.base:BaseApplication.do_load_config": (
        "server/arbiter.py: SystemExit",
        "502f5dc865f1",
    ),
    "gunicorn.app.base:Application.get_config_from_filename": (
        "server/arbiter.py: context",
        "05628a4ead63",
    ),
    "uvicorn_worker:UvicornWorker": ("server/worker.py: config, init_signals, run", "32ed327fe449"),
    f"{SERVER}ServerState": (
        "server/graceful.py: connections, tasks, default_headers",
        "f2260fbf1015",
    ),
    f"{SERVER}Server._serve": ("server/graceful.py: startup, main_loop, shutdown", "4575b7a50adf"),
    f"{SERVER}Server.startup": ("server/graceful.py: started, servers", "2aa1d70a244b"),
    f"{SERVER}Server.on_tick": (
        "server/graceful.py: ten ticks a second, default_headers",
        "60ea49b06ccf",
    ),
    f"{SERVER}Server.shutdown": ("server/graceful.py: replaced", "9b33c5056299"),
    f"{SERVER}Server.capture_signals": ("server/graceful.py: replaced", "e1bbcd4770d1"),
    f"{HTTP}HttpToolsProtocol.shutdown": ("server/graceful.py: cycle, transport", "d7351fa33f00"),
    f"{HTTP}HttpToolsProtocol.handle_websocket_upgrade": ("server/websockets.py", "179c4f769386"),
    f"{SOCKETS}data_received": (
        "server/websockets.py: silent when handshake_exc is set",
        "c89d394077d8",
    ),
    f"{SOCKETS}shutdown": ("server/graceful.py: 1012", "e8ace796ada6"),
    "uvicorn.lifespan.on:LifespanOn.shutdown": (
        "server/graceful.py: may be cancelled",
        "4949e25dfbe4",
    ),
    "asyncpg.connection:Connection.close": (
        "app/database.py: aborts when cancelled",
        "ec5b42362fea",
    ),
}


def digest(name: str) -> str:
    source = inspect.getsource(pkgutil.resolve_name(name))
    return hashlib.sha256(source.encode()).hexdigest()[:12]


@pytest.mark.parametrize("package", TESTED)
def test_version_is_the_one_that_was_tested(package: str) -> None:
    assert version(package) == TESTED[package], f"look at {__file__}"


@pytest.mark.parametrize("name", INTERNALS)
def test_internal_is_the_one_that_was_tested(name: str) -> None:
    place, tested = INTERNALS[name]
    assert digest(name) == tested, f"{name} has changed: {place}"
