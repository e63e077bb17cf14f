"""Writes `.env` from `.env.example` with a secret of its own; an existing one stays as it is.

Standard library only: it runs in the service folder before any package is installed.
"""

import os
import re
import secrets
import sys
import tempfile
from pathlib import Path


def create(folder: Path = Path()) -> bool:
    """False when there is one already."""
    target = folder / ".env"
    if os.path.lexists(target):
        return False
    text = _fill_in((folder / ".env.example").read_text(encoding="utf-8"))
    # mkstemp opens with O_EXCL and mode 0600: nobody else can read the secret at any moment.
    descriptor, draft = tempfile.mkstemp(dir=folder, prefix=".env.")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        return _place(Path(draft), target)
    finally:
        Path(draft).unlink(missing_ok=True)


def _fill_in(example: str) -> str:
    line = f"SECRET_KEY={secrets.token_urlsafe(48)}"
    text, count = re.subn(r"^SECRET_KEY=.*$", line, example, flags=re.MULTILINE)
    if count != 1:
        sys.exit(f".env.example must have one line that begins with SECRET_KEY=, not {count}.")
    return text


def _place(draft: Path, target: Path) -> bool:
    """All of it or nothing, and unlike a rename never over a file that came meanwhile."""
    try:
        os.link(draft, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        os.replace(draft, target)
    return True


def main() -> None:
    try:
        create()
    except OSError as error:
        sys.exit(f".env cannot be written: {error.strerror} ({error.filename}).")


if __name__ == "__main__":
    main()
