"""Refuses the passwords that are guessed first; used by `schemas.py`.

The list is made by `python -m development.common_passwords`.
"""

from functools import cache
from pathlib import Path

_LIST = Path(__file__).with_suffix(".txt")


def is_common(password: str) -> bool:
    return password.strip().lower() in common_passwords()


@cache
def common_passwords() -> frozenset[str]:
    """Takes 3 ms and 1 MB the first time: the lifespan asks for it before requests come."""
    lines = _LIST.read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))
