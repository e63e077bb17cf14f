"""deploy/systemd as a Deployment, with the rules of its units; a unit may name a key many times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from doctor.files.deployment import Deployment, read_environment_file
from doctor.finding import Entry, Finding, parse_bytes, parse_seconds
from doctor.rules import Rule, among, at_least, broken_rules, is_set, misspelled
from doctor.timeouts import Value

FOLDER = Path("deploy/systemd")
NGINX_SITE = FOLDER / "nginx-site"
_UNITS = "app*.service"
_NGINX = FOLDER / "nginx.service"
_SOCKET = FOLDER / "app.socket"
_ENVIRONMENT = FOLDER / "app.env"
# DefaultTimeoutStopSec. https://www.freedesktop.org/software/systemd/man/systemd.service.html
_STOP_SECONDS_DEFAULT = "90s"
# A connection is two files.
_OPEN_FILES_MIN = 4096
_START_SECONDS_MIN = 30
_RESTART_SECONDS_MAX = 30
# Longer than worker_shutdown_timeout.
_NGINX_STOP_SECONDS_MIN = 36

_Keys = Mapping[str, Sequence[Entry]]

_OPEN_FILES = Rule(
    "LimitNOFILE",
    "1024",
    at_least(_OPEN_FILES_MIN, parse_bytes),
    "capacity",
    "Over the limit nobody is accepted.",
    "Write LimitNOFILE=16384.",
)
UNIT_RULES = (
    Rule(
        "PrivateNetwork",
        "no",
        among("no", "false", "0", "off"),
        "systemd",
        "It reaches no database.",
        "Leave PrivateNetwork out.",
    ),
    Rule(
        "RestartSec",
        "100ms",
        lambda text: (parse_seconds(text) or 0) <= _RESTART_SECONDS_MAX,
        "systemd",
        "It stays down that long after a crash.",
        "Write RestartSec=1s.",
    ),
    Rule(
        "Type",
        "simple",
        among("notify", "notify-reload"),
        "systemd",
        "systemd takes it for started before it listens.",
        "Write Type=notify.",
    ),
    Rule(
        "ExecStart",
        "",
        lambda text: text.endswith("gunicorn"),
        "gunicorn",
        "Arguments win over gunicorn.conf.py, where the numbers are checked.",
        "Start gunicorn without arguments.",
    ),
    Rule(
        "ExecReload",
        "",
        lambda text: "HUP" in text,
        "systemd",
        "systemctl reload does nothing, or does harm.",
        "Write ExecReload=/bin/kill -HUP $MAINPID.",
    ),
    Rule(
        "KillMode",
        "control-group",
        among("mixed"),
        "timeouts",
        "Workers get TERM beside gunicorn's master, or are left behind.",
        "Write KillMode=mixed.",
    ),
    Rule(
        "KillSignal",
        "SIGTERM",
        among("sigterm", "15"),
        "timeouts",
        "Requests under way are cut: only TERM lets them finish.",
        "Leave KillSignal out.",
    ),
    Rule(
        "Restart",
        "no",
        among("on-failure", "always", "on-abnormal"),
        "systemd",
        "After a crash it stays down.",
        "Write Restart=on-failure.",
    ),
    Rule(
        "TimeoutStartSec",
        "90s",
        at_least(_START_SECONDS_MIN, parse_seconds),
        "timeouts",
        "A start on a slow disk is killed.",
        "Write TimeoutStartSec=60s.",
    ),
    _OPEN_FILES,
    Rule(
        "User",
        "root",
        lambda text: text not in ("root", "0"),
        "secrets",
        "Who breaks into the service owns the machine.",
        "Give it a user of its own.",
    ),
    Rule(
        "WorkingDirectory",
        "",
        is_set,
        "systemd",
        "gunicorn finds no gunicorn.conf.py.",
        "Write the folder of the release.",
    ),
    Rule(
        "EnvironmentFile",
        "",
        is_set,
        "systemd",
        "It has no secrets and does not start.",
        "Name the file of secrets.",
    ),
    Rule(
        "Requires",
        "",
        lambda text: ".socket" in text,
        "systemd",
        "It starts without its socket and listens on a port instead.",
        "Name the socket.",
    ),
)
NGINX_RULES = (
    Rule(
        "KillSignal",
        "SIGTERM",
        among("sigquit", "3"),
        "timeouts",
        "nginx cuts the answers under way.",
        "Write KillSignal=SIGQUIT.",
    ),
    Rule(
        "TimeoutStopSec",
        "90s",
        at_least(_NGINX_STOP_SECONDS_MIN, parse_seconds),
        "timeouts",
        "nginx is killed while it finishes.",
        "Write TimeoutStopSec=40s.",
    ),
    _OPEN_FILES,
)
SOCKET_RULES = (
    Rule(
        "SocketMode",
        "0666",
        among("0660", "660", "0600", "600"),
        "trusted proxies",
        "Whoever opens the socket is believed, whatever address he names.",
        "Write SocketMode=0660.",
    ),
    Rule(
        "SocketGroup",
        "",
        is_set,
        "systemd",
        "nginx may not open the socket.",
        "Name the group of nginx.",
    ),
    Rule(
        "WantedBy",
        "",
        is_set,
        "systemd",
        "After a reboot nobody listens.",
        "Write WantedBy=sockets.target.",
    ),
    Rule(
        "Accept",
        "no",
        among("no", "false", "0", "off"),
        "systemd",
        "Each connection would start a service of its own.",
        "Leave Accept out.",
    ),
    Rule(
        "Backlog",
        "4096",
        at_least(1024, parse_bytes),
        "capacity",
        "A unix socket refuses what does not fit, while a release starts.",
        "Write Backlog=4096.",
    ),
)


def read_systemd(root: Path) -> tuple[list[Deployment], list[Finding]]:
    deployments: list[Deployment] = []
    findings: list[Finding] = []
    socket = _read_unit(root, root / _SOCKET)
    for file in sorted((root / FOLDER).glob(_UNITS)):
        unit = _read_unit(root, file)
        where = str(file.relative_to(root))
        deployments.append(_deployment(root, where, unit, socket))
        findings += _check(UNIT_RULES, unit, where)
    nginx = root / _NGINX
    if nginx.is_file():
        findings += _check(NGINX_RULES, _read_unit(root, nginx), str(_NGINX))
    if deployments:
        findings += _check(SOCKET_RULES, socket, str(_SOCKET))
    return deployments, findings


def _check(rules: Sequence[Rule], unit: _Keys, where: str) -> Iterator[Finding]:
    yield from broken_rules(rules, _last(unit), where)
    named = [(name, entries[-1].where) for name, entries in unit.items()]
    yield from misspelled(named, [*(rule.key for rule in rules), "TimeoutStopSec", "MemoryMax"])


def _deployment(root: Path, where: str, unit: _Keys, socket: _Keys) -> Deployment:
    environment = read_environment_file(root, root / _ENVIRONMENT)
    for entry in unit.get("Environment", ()):
        for pair in entry.value.split():
            name, _, value = pair.strip("\"'").partition("=")
            environment[name] = Entry(value, entry.where)
    key = _last(unit)
    stop = key("TimeoutStopSec") or Entry(_STOP_SECONDS_DEFAULT, where)
    seconds = parse_seconds(stop.value)
    is_strict = (key("ProtectSystem") or Entry("", "")).value == "strict"
    listens = [entry.value for entry in socket.get("ListenStream", ())]
    has_unix_socket = bool(listens) and all(one.startswith("/") for one in listens)
    memory = key("MemoryMax")
    return Deployment(
        where=where,
        kind="systemd",
        environment=environment,
        environment_default="development",
        timeouts={"stop": Value(seconds, stop.where)} if seconds is not None else {},
        memory_bytes=parse_bytes(memory.value) if memory else None,
        has_read_only_root=is_strict,
        writable=tuple(_writable(unit, key("PrivateTmp"))),
        has_unix_socket=has_unix_socket,
        listens=f"unix:{listens[0]}" if has_unix_socket else "".join(listens[:1]),
        nginx_address=Entry("*", where) if has_unix_socket else None,
    )


def _read_unit(root: Path, file: Path) -> dict[str, list[Entry]]:
    keys: dict[str, list[Entry]] = {}
    if not file.is_file():
        return keys
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, equals, value = line.partition("=")
        if not equals or line.startswith(("#", ";", "[")):
            continue
        if not value.strip():
            keys.pop(name.strip(), None)  # an empty value forgets those before
            continue
        entry = Entry(value.strip(), f"{file.relative_to(root)}:{number}")
        keys.setdefault(name.strip(), []).append(entry)
    return keys


def _last(unit: _Keys) -> Callable[[str], Entry | None]:
    return lambda name: unit[name][-1] if name in unit else None


def _writable(unit: _Keys, private_tmp: Entry | None) -> list[str]:
    paths = [path for one in unit.get("ReadWritePaths", ()) for path in one.value.split()]
    if private_tmp and private_tmp.value.lower() in ("yes", "true", "1", "on", "disconnected"):
        paths.append("/tmp")  # noqa: S108
    return paths
