"""Rules that read as data: what a key must say, a missing line being its software's default."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from doctor.finding import Entry, Finding, Severity, warning

Find = Callable[[str], Entry | None]


@dataclass(frozen=True)
class Rule:
    """`default` is what the software does without the line."""

    key: str
    default: str
    is_good: Callable[[str], bool]
    check: str
    why: str
    fix: str
    severity: Severity = Severity.ERROR


def broken_rules(rules: Sequence[Rule], find: Find, where: str) -> Iterator[Finding]:
    """One finding for each rule that does not hold; `where` is told for lines that are missing."""
    for rule in rules:
        entry = find(rule.key)
        if rule.is_good(entry.value if entry else rule.default):
            continue
        missing = f"{rule.key} is missing, which means {rule.default or 'none'}."
        what = f"{rule.key} is {entry.value or 'empty'}." if entry else missing
        found_at = entry.where if entry else where
        yield Finding(rule.severity, rule.check, what, found_at, rule.why, rule.fix)


def among(*values: str) -> Callable[[str], bool]:
    return lambda text: text.lower() in values


def without(*words: str) -> Callable[[str], bool]:
    return lambda text: not set(words).intersection(text.replace(",", " ").split())


def at_least(number: float, read: Callable[[str], float | None]) -> Callable[[str], bool]:
    """What cannot be read is somebody else's finding."""
    return lambda text: (value := read(text)) is None or value >= number


def is_set(text: str) -> bool:
    return bool(text)


def misspelled(found: Sequence[tuple[str, str]], known: Sequence[str]) -> Iterator[Finding]:
    """Of names with their places, those that nothing reads and that look like one that is read."""
    for name, where in found:
        close = [] if name in known else get_close_matches(name, known, n=1, cutoff=0.88)
        for meant in close:
            yield warning(
                "spelling",
                f"{name} is read by nothing.",
                where,
                "Its default is used instead.",
                f"Did you mean {meant}?",
            )
