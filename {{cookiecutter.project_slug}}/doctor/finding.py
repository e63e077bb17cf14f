"""What a check says: one finding for each mistake, and how to read times and sizes."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

# s, min, m and so on, as nginx, compose and systemd write them; a bare number is seconds.
_UNIT_SECONDS = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """`check` is the topic; the sentences say what is wrong, why it hurts, what to do."""

    severity: Severity
    check: str
    what: str
    where: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what} {self.why} {self.fix}".strip()


def mistake(message: str, where: str, /, **words: object) -> Finding:
    """With the sentences of messages.toml; an error unless they say otherwise."""
    own = {name: text.format_map(words) for name, text in _messages()[message].items()}
    severity = Severity(own.pop("severity", Severity.ERROR))
    return Finding(severity=severity, where=where, **own)


@cache
def _messages() -> Mapping[str, Mapping[str, str]]:
    file = Path(__file__).parent / "messages.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Entry:
    """A value and where it stands: `file:line`, or the name of a setting."""

    value: str
    where: str


def parse_seconds(text: str) -> float | None:
    """None for what is no duration; infinity counts as one."""
    if text == "infinity":
        return float("inf")
    rest = text.strip().lower()
    parts = _DURATION_PART.findall(rest)
    if not parts or _DURATION_PART.sub("", rest).strip():
        return None
    if any(unit not in _UNIT_SECONDS for _, unit in parts):
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def parse_bytes(text: str) -> int | None:
    """64k, 1m, 512Mi, 1G as nginx, compose and Kubernetes write them, all in powers of 1024.

    Kubernetes' M and G are powers of 1000, which is close enough for a limit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b?)", text.strip().lower())
    if match is None:
        return None
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))
