"""deploy/systemd as a Deployment, with the rules of its units; a unit may name a key many times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from doctor.files.deployment import Deployment, read_environment_file
from doctor.finding import Entry, Finding, parse_bytes, parse_seconds
from doctor.rules import broken_rules, misspelled, read_rules
from doctor.timeouts import Value

FOLDER = Path("deploy/systemd")
NGINX_SITE = FOLDER / "nginx-site"
_UNITS = "app*.service"
_JOBS = FOLDER / "jobs@.service"
_NGINX = FOLDER / "nginx.service"
_SOCKET = FOLDER / "app.socket"
_ENVIRONMENT = FOLDER / "app.env"
# DefaultTimeoutStopSec. https://www.freedesktop.org/software/systemd/man/systemd.service.html
_STOP_SECONDS_DEFAULT = "90s"
_RULES = Path(__file__).with_suffix(".toml")

# Rules of app@.service that a process without a socket has no use for.
_OF_GUNICORN = {"LimitNOFILE", "Requires", "Sockets", "TimeoutStartSec", "Type"}

_Keys = Mapping[str, Sequence[Entry]]


def read_systemd(root: Path) -> tuple[list[Deployment], list[Finding]]:
    deployments: list[Deployment] = []
    findings: list[Finding] = []
    socket = _read_unit(root, root / _SOCKET)
    for file in sorted((root / FOLDER).glob(_UNITS)):
        unit = _read_unit(root, file)
        where = str(file.relative_to(root))
        deployments.append(_deployment(root, where, unit, socket))
        findings += _check("service", unit, where)
    if (root / _JOBS).is_file():
        unit, where = _read_unit(root, root / _JOBS), str(_JOBS)
        deployments.append(replace(_deployment(root, where, unit, {}, "jobs_stop"), is_jobs=True))
        findings += _check("jobs", unit, where)
    nginx = root / _NGINX
    if nginx.is_file():
        findings += _check("nginx", _read_unit(root, nginx), str(_NGINX))
    if deployments:
        findings += _check("socket", socket, str(_SOCKET))
    return deployments, findings


def _check(section: str, unit: _Keys, where: str) -> Iterator[Finding]:
    rules = read_rules(_RULES)[section]
    if section == "jobs":
        shared = read_rules(_RULES)["service"]
        rules = {key: shared[key] for key in shared if key not in _OF_GUNICORN} | {**rules}
    yield from broken_rules(rules, _last(unit), where)
    named = [(name, entries[-1].where) for name, entries in unit.items()]
    yield from misspelled(named, [*rules, "TimeoutStopSec", "MemoryMax"])


def _deployment(
    root: Path, where: str, unit: _Keys, socket: _Keys, timeout: str = "stop"
) -> Deployment:
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
        timeouts={timeout: Value(seconds, stop.where)} if seconds is not None else {},
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
