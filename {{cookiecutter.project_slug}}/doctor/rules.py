"""Rules that read as data: what a key must say, a missing line being its software's default."""

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from doctor.finding import Entry, Finding, Severity, mistake, parse_bytes, parse_seconds

Find = Callable[[str], Entry | None]


class Rule(BaseModel):
    """One table of a TOML file. Of the conditions all that are written must hold; what a limit
    cannot read is somebody else's finding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # What the software does without the line.
    default: str = ""
    # Without regard to case: the whole value, or words that must not be in it.
    one_of: tuple[str, ...] = ()
    none_of: frozenset[str] = frozenset()
    # A regular expression, found somewhere in it.
    matches: str = ""
    # A number or a size in bytes: of several, the last.
    min_size: float = 0
    min_seconds: float = 0
    max_seconds: float = math.inf

    severity: Severity = Severity.ERROR
    check: str
    why: str
    fix: str

    def holds(self, text: str) -> bool:
        words = text.lower().replace(",", " ").split()
        size, seconds = parse_bytes("".join(words[-1:])), parse_seconds(text)
        return (
            (not self.one_of or text.lower() in self.one_of)
            and not self.none_of.intersection(words)
            and re.search(self.matches, text) is not None
            and (size is None or size >= self.min_size)
            and (seconds is None or self.min_seconds <= seconds <= self.max_seconds)
        )


Rules = Mapping[str, Rule]


@cache
def read_rules(file: Path) -> Mapping[str, Rules]:
    """By section and key."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, dict[str, Rule]]).validate_python(tables)


def broken_rules(rules: Rules, find: Find, where: str) -> Iterator[Finding]:
    """One finding for each rule that does not hold; `where` is told for lines that are missing."""
    for key, rule in rules.items():
        entry = find(key)
        if rule.holds(entry.value if entry else rule.default):
            continue
        missing = f"{key} is missing, which means {rule.default or 'none'}."
        what = f"{key} is {entry.value or 'empty'}." if entry else missing
        found_at = entry.where if entry else where
        yield Finding(rule.severity, rule.check, what, found_at, rule.why, rule.fix)


def misspelled(names: Sequence[tuple[str, str]], known: Sequence[str]) -> Iterator[Finding]:
    """Of names with their places, those that nothing reads and that look like one that is read."""
    for name, where in names:
        close = [] if name in known else get_close_matches(name, known, n=1, cutoff=0.88)
        for meant in close:
            yield mistake("misspelled", where, name=name, meant=meant)
