"""Asking a server for JSON: with a time limit, a few more tries, and nothing said twice that is secret."""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from covey.types import CoveyError

MOST_BYTES = 16 << 20
FIRST_WAIT, MOST_WAIT = 0.5, 30.0
"""Seconds before the second try, doubled at each further one, and the most that is ever waited."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP codes that may be gone at the next try."""


class Unanswered(Exception):
    """Why a server gave nothing that can be used, in a line."""


class Unusable(Exception):
    """What an answer lacks; it is asked for again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address, and turn the question into an empty one."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class Server:
    """A server that answers JSON with JSON.

    ``seconds`` are for one try, of which there are ``attempts``, with random growing waits between.
    ``key_env`` names the environment variable with the key; the key itself is kept nowhere and taken
    out of what the server says.

    Raises:
        CoveyError: the address is none, there is no such variable, or there is no try.
    """

    url: str
    _: KW_ONLY
    key_env: str | None = None
    seconds: float = 60.0
    attempts: int = 5

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CoveyError(f"a server's address is written http://host:port/path, not {self.url!r}")
        if parts.username or parts.password:
            raise CoveyError("an address with a password would be recorded: name a variable with key_env")
        if self.attempts < 1 or not self.seconds > 0:
            raise CoveyError("attempts are 1 or more, and seconds more than 0")
        if self.key_env is not None and not os.environ.get(self.key_env, "").strip():
            raise CoveyError(f"the environment variable {self.key_env} is to hold the key and isn't set")

    def ask(self, question: Mapping[str, Any], read: Callable[[Any], Any]) -> Any:
        """What ``read`` makes of the answer to a question. It raises `Unusable` for one that is no use.

        Raises:
            Unanswered: no try came to anything.
        """
        body = json.dumps(question).encode()
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(random.uniform(0.5, 1.0) * min(FIRST_WAIT * 2 ** (attempt - 1), MOST_WAIT))
            try:
                return read(self._answer(body))
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(MOST_BYTES).decode("utf-8", "replace").strip()
                reason = f"HTTP {error.code}: {said or error.reason}"
                if error.code not in PASSING:
                    raise Unanswered(self._told(reason, attempt + 1)) from None
            except (OSError, http.client.HTTPException, ValueError, RecursionError, Unusable) as error:
                reason = str(error) or type(error).__name__  # URLError and timeouts are OSError
        raise Unanswered(self._told(reason, self.attempts))

    def _answer(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key_env is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        own = urllib.parse.urlsplit(self.url).hostname in ("127.0.0.1", "::1", "localhost")
        proxies = urllib.request.ProxyHandler({} if own else None)  # a proxy has no way to this machine
        opener = urllib.request.build_opener(_NoRedirect, proxies)
        end = time.monotonic() + self.seconds
        data = bytearray()
        with opener.open(request, timeout=self.seconds) as response:
            while piece := response.read1(1 << 16):
                data += piece
                if len(data) > MOST_BYTES:
                    raise Unusable(f"an answer of more than {MOST_BYTES >> 20} MiB")
                if time.monotonic() > end:  # the timeout of a socket is for each piece
                    raise TimeoutError(f"the answer took more than {self.seconds:g} s")
        return json.loads(data)

    @property
    def _key(self) -> str:
        return os.environ.get(self.key_env or "", "").strip()

    def _told(self, reason: str, tries: int) -> str:
        if self._key:
            reason = reason.replace(self._key, "…")
        often = "" if tries == 1 else f" ({tries} tries)"
        return f"{self.url}: {' '.join(reason.split())[:300]}{often}"
