"""Only on a developer's machine: servers, a database, new features."""


class DevelopmentError(Exception):
    """One sentence for the person at the keyboard: what is wrong, and what would be right."""
