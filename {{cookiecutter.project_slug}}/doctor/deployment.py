"""What compose, Kubernetes and systemd say about the service, in one form.

The next hops are the checks in `exposure.py` and `budget.py`, and the order of timeouts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doctor.finding import Entry
from doctor.timeouts import TIMEOUTS, Value

_INTERPOLATION = re.compile(r"\$\{\w+(?::?-([^}]*)|[^}]*)\}|\$\w+")


@dataclass(frozen=True)
class Deployment:
    """Everything may be missing; `where` is the container or unit."""

    where: str
    is_nginx: bool = False
    environment: Mapping[str, Entry] = field(default_factory=dict)
    # Timeout of the order of timeouts that this file sets.
    timeouts: Mapping[str, Value] = field(default_factory=dict)
    replicas: Entry | None = None
    cores: float | None = None
    memory_bytes: int | None = None
    has_read_only_root: bool = False
    writable: tuple[str, ...] = ()
    has_unix_socket: bool = False


def interpolate(text: str) -> str | None:
    """With the defaults of `${NAME:-default}`; None when the environment must tell."""
    unknown = [match for match in _INTERPOLATION.finditer(text) if match[1] is None]
    return None if unknown else _INTERPOLATION.sub(lambda match: match[1], text)


def read_environment_file(root: Path, file: Path) -> dict[str, Entry]:
    """NAME=value lines, as Kustomize and systemd read them."""
    if not file.is_file():
        return {}
    entries: dict[str, Entry] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";")):
            entries[name.strip()] = Entry(value.strip(), f"{file.relative_to(root)}:{number}")
    return entries


def _timeouts(deployment: Deployment) -> Iterator[tuple[str, Value]]:
    """What the file sets itself, and the settings in its environment."""
    yield from deployment.timeouts.items()
    homes = {timeout.setting: name for name, timeout in TIMEOUTS.items()}
    for setting, entry in deployment.environment.items():
        text = interpolate(entry.value)
        if setting in homes and text and re.fullmatch(r"\d+(\.\d+)?", text):
            yield homes[setting], Value(float(text), entry.where)


def values_by_timeout(deployments: Sequence[Deployment]) -> dict[str, list[Value]]:
    values: dict[str, list[Value]] = {}
    for deployment in deployments:
        for name, value in _timeouts(deployment):
            values.setdefault(name, []).append(value)
    return values
