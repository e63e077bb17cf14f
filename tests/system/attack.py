"""One attack of the campaign: what is sent, and which answers mean that it was held."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode

REFUSED = frozenset({400, 401, 403, 404, 405, 413, 414, 415, 421, 422, 429, 431})
# nginx's own words for a transfer coding and a version of HTTP that it does not speak (RFC 9110,
# 15.6.2 and 15.6.6): nothing of it reaches the service.
NOT_SPOKEN = frozenset({501, 505})
# The connection was closed without a word.
CLOSED = 0
_TIMEOUT_SECONDS = 20
_SECOND_ANSWER_SECONDS = 0.3
FORM = "application/x-www-form-urlencoded"
# What only the admin app, the metrics or a file of the machine would answer.
NEVER = ('name="password"', "process_resident_memory", "root:x:0:0", "Newest changes", "Traceback")


@dataclass(frozen=True)
class Target:
    """What the attacker knows: two doors, an account of their own, and ids of somebody else."""

    public_port: int
    local_port: int
    host: str = "localhost"
    known: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.known[name]


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def statuses(self) -> int:
        """How many answers came over this connection."""
        return self.text.count("HTTP/1.1 ") + self.text.count("HTTP/1.0 ")


@dataclass(frozen=True)
class Attack:
    group: str
    what: str
    target: str = "/"
    method: str = "GET"
    headers: tuple[str, ...] = ()
    body: bytes = b""
    # The whole request instead of the fields above.
    raw: bytes | None = None
    held: frozenset[int] = REFUSED
    # It was not held when this text is in the answer, whatever the status.
    never: tuple[str, ...] = NEVER
    is_held: Callable[[Answer], bool] = lambda _answer: True
    door: Literal["public", "local"] = "public"
    version: str = "HTTP/1.1"

    def send(self, at: Target) -> Answer:
        port = at.public_port if self.door == "public" else at.local_port
        address = ("127.0.0.1", port)
        with socket.create_connection(address, timeout=_TIMEOUT_SECONDS) as connection:
            text = b""
            try:
                connection.sendall(self.raw or self._request(at))
                while received := connection.recv(65_536):
                    text += received
                    if self.raw:
                        # The connection stays open for a second answer, which must not come.
                        connection.settimeout(_SECOND_ANSWER_SECONDS)
            except (ConnectionError, TimeoutError):
                pass
        return Answer(_status(text), text.decode("utf-8", "replace"))

    def verdict(self, answer: Answer) -> Literal["held", "through", "failed"]:
        """`failed` is a 5xx."""
        if answer.status >= 500 and answer.status not in self.held:
            return "failed"
        told = any(word in answer.text for word in self.never)
        is_held = answer.status in self.held and not told and self.is_held(answer)
        return "held" if is_held else "through"

    def _request(self, at: Target) -> bytes:
        names = {header.partition(":")[0].lower() for header in self.headers}
        headers = list(self.headers)
        if "host" not in names:
            headers.insert(0, f"Host: {at.host}")
        if self.body and not names & {"content-length", "transfer-encoding"}:
            headers.append(f"Content-Length: {len(self.body)}")
        if "connection" not in names:
            headers.append("Connection: close")
        lines = [f"{self.method} {self.target} {self.version}", *headers, "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


def _status(answer: bytes) -> int:
    words = answer.split(b" ", 2)
    is_http = answer.startswith(b"HTTP/") and len(words) > 1 and words[1].isdigit()
    return int(words[1]) if is_http else CLOSED


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()
