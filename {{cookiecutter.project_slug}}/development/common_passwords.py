"""Writes the list of common passwords again, from the one that zxcvbn maintains."""

from pathlib import Path

from zxcvbn.frequency_lists import FREQUENCY_LISTS

LENGTH_MIN = 8
LIST = Path("app/accounts/common_passwords.txt")
HEAD = """\
# Passwords of eight characters and more that people use most, in lower case.
# Source: zxcvbn, https://github.com/dwolfhub/zxcvbn-python; MIT License,
# Copyright (c) 2012-2016 Dan Wheeler and Dropbox, Inc.
# Made by `python -m development.common_passwords`.
"""


def build_list() -> str:
    # Shorter ones are refused for their length.
    passwords = (word for word in FREQUENCY_LISTS["passwords"] if len(word) >= LENGTH_MIN)
    return HEAD + "".join(f"{password}\n" for password in sorted(passwords))


if __name__ == "__main__":
    LIST.write_text(build_list(), "utf-8")
