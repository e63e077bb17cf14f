"""Reads the Markdown pages of the template and of the service: prose, samples, tables, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY, SERVICE, git_known_files

SERVICE_FOLDER = REPOSITORY / SERVICE
FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """A fenced block; `language` is its whole info string."""

    language: str
    text: str


@dataclass(frozen=True)
class Page:
    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(REPOSITORY).as_posix().replace(SERVICE, "service")

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """Without samples, and without the Jinja of the README that is rendered."""
        return re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", FENCE.sub("", self.text))

    @property
    def samples(self) -> list[Sample]:
        return [Sample(language, _dedent(text)) for _, language, text in FENCE.findall(self.text)]

    @property
    def spans(self) -> list[str]:
        return SPAN.findall(self.prose)

    @property
    def links(self) -> list[str]:
        return [link for link in LINK.findall(FENCE.sub("", self.text)) if "://" not in link]

    @property
    def anchors(self) -> set[str]:
        """As GitHub makes them."""
        titles = HEADING.findall(FENCE.sub("", self.text))
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def root(self) -> Path:
        """The folder in which its commands run."""
        return SERVICE_FOLDER if self.path.is_relative_to(SERVICE_FOLDER) else REPOSITORY

    def rows(self, first_cell: str) -> Iterator[list[str]]:
        """Rows of the tables whose header begins with that cell."""
        inside = False
        for line in self.text.splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not cells:
                inside = False
            elif cells[0] == first_cell:
                inside = True
            elif inside and not set(cells[0]) <= set("-:"):
                yield cells


def _dedent(text: str) -> str:
    indent = min((len(line) - len(line.lstrip()) for line in text.splitlines() if line), default=0)
    return "\n".join(line[indent:] for line in text.splitlines())


def all_pages() -> list[Page]:
    return [Page(REPOSITORY / name) for name in git_known_files(REPOSITORY) if name.endswith(".md")]


def all_code() -> dict[Path, str]:
    """Everything that git knows but pages, locks and pictures."""
    return {
        path: path.read_text(encoding="utf-8")
        for path in map(REPOSITORY.joinpath, git_known_files(REPOSITORY))
        if path.suffix not in {".md", ".lock", ".png"}
    }


def make_targets(folder: Path) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (folder / "Makefile").read_text(), re.MULTILINE))


def commands(sample: str) -> Iterator[list[str]]:
    """The words of each command of a shell sample, without comments, variables and sudo."""
    lines = re.sub(r"\\\n", " ", sample)
    lines = re.sub(r"(^|\s)#.*", "", lines)
    for line in re.split(r"\n|&&|\|", lines):
        words = line.split()
        while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] in {"$", "sudo", "exec"}):
            del words[0]
        if words:
            yield words
