"""deploy/systemd as a Deployment; a unit may name a key many times."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from doctor.files.deployment import Deployment, read_environment_file
from doctor.finding import Entry, Finding, parse_bytes, parse_seconds
from doctor.timeouts import Value

UNIT = Path("deploy/systemd/app@.service")
_SOCKET = Path("deploy/systemd/app.socket")
_ENVIRONMENT = Path("deploy/systemd/app.env")
# DefaultTimeoutStopSec. https://www.freedesktop.org/software/systemd/man/systemd.service.html
_STOP_SECONDS_DEFAULT = "90s"

_Keys = Mapping[str, Sequence[Entry]]


def read_systemd(root: Path) -> tuple[list[Deployment], list[Finding]]:
    if not (root / UNIT).is_file():
        return [], []
    unit, socket = _read_unit(root, root / UNIT), _read_unit(root, root / _SOCKET)
    environment = read_environment_file(root, root / _ENVIRONMENT)
    for entry in unit.get("Environment", ()):
        for pair in entry.value.split():
            name, _, value = pair.strip("\"'").partition("=")
            environment[name] = Entry(value, entry.where)
    stop = _last(unit, "TimeoutStopSec") or Entry(_STOP_SECONDS_DEFAULT, str(UNIT))
    seconds = parse_seconds(stop.value)
    is_strict = (_last(unit, "ProtectSystem") or Entry("", "")).value == "strict"
    private_tmp = _last(unit, "PrivateTmp")
    listens = [entry.value for entry in socket.get("ListenStream", ())]
    memory = _last(unit, "MemoryMax")
    return [
        Deployment(
            where=str(UNIT),
            environment=environment,
            timeouts={"stop": Value(seconds, stop.where)} if seconds is not None else {},
            memory_bytes=parse_bytes(memory.value) if memory else None,
            has_read_only_root=is_strict,
            writable=tuple(_writable(unit, private_tmp)),
            has_unix_socket=bool(listens) and all(one.startswith("/") for one in listens),
        )
    ], []


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


def _last(unit: _Keys, name: str) -> Entry | None:
    entries = unit.get(name)
    return entries[-1] if entries else None


def _writable(unit: _Keys, private_tmp: Entry | None) -> list[str]:
    paths = [path for one in unit.get("ReadWritePaths", ()) for path in one.value.split()]
    if private_tmp and private_tmp.value.lower() in ("yes", "true", "1", "on", "disconnected"):
        paths.append("/tmp")  # noqa: S108
    return paths
