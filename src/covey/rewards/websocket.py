"""A WebSocket's client side (RFC 6455): one text out, one text in."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import time
import urllib.parse
import weakref

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
MOST_BYTES = 16 << 20
HEAD_BYTES = 16 << 10


class Closed(Exception):
    """The connection isn't there, or not any more."""


class WebSocket:
    """A connection to ``ws://…`` or ``wss://…``. ``seconds`` are for the connection, and for each exchange.

    It ends with the object. Proxies are not asked.

    Raises:
        Closed: nobody answers there, or not as a WebSocket.
    """

    def __init__(self, url: str, seconds: float) -> None:
        parts = urllib.parse.urlsplit(url)
        secure, host = parts.scheme == "wss", parts.hostname or ""
        self.seconds, self.unread, self.deadline = seconds, b"", time.monotonic() + seconds
        try:
            connected = socket.create_connection((host, parts.port or (443 if secure else 80)), seconds)
        except OSError as error:
            raise Closed(f"no connection to {url}: {error}") from error
        self.close = weakref.finalize(self, connected.close)
        """Leave."""
        self.socket = connected
        try:
            if secure:
                self.socket = ssl.create_default_context().wrap_socket(connected, server_hostname=host)
                self.close = weakref.finalize(self, self.socket.close)
            self._greet(parts.netloc, parts.path or "/")
        except (OSError, Closed) as error:
            self.close()
            raise Closed(f"no WebSocket at {url}: {error}") from error

    def exchange(self, text: str) -> str:
        """Send a text and wait for one. Raises Closed when none comes in time; it is of no use then."""
        self.deadline = time.monotonic() + self.seconds
        try:
            self._send(TEXT, text.encode())
            return self._receive()
        except (OSError, ValueError, Closed) as error:
            self.close()
            raise Closed(f"the connection ended: {error}") from error

    def _greet(self, host: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.unread:
            if len(self.unread) > HEAD_BYTES:
                raise Closed("a greeting without an end")
            self._more()
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        digest = hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()
        wanted = base64.b64encode(digest).decode()
        if status.split(" ")[1:2] != ["101"] or headers.get("sec-websocket-accept") != wanted:
            raise Closed(f"it answers {status[:100]!r}")

    def _send(self, kind: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = bytes([0x80 | kind, 0x80 | size])
        elif size < 1 << 16:
            head = bytes([0x80 | kind, 0x80 | 126]) + size.to_bytes(2)
        else:
            head = bytes([0x80 | kind, 0x80 | 127]) + size.to_bytes(8)
        mask = os.urandom(4)  # a client's frames are masked (5.3)
        stream = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(size)
        self._write(head + mask + masked)

    def _receive(self) -> str:
        """One text, put together from its frames; pings among them are answered."""
        text = b""
        while True:
            first, second = self._take(2)
            kind, size = first & 0x0F, second & 0x7F
            if second & 0x80:
                raise Closed("a server's frame is masked")
            if size >= 126:
                size = int.from_bytes(self._take(2 if size == 126 else 8))
            if len(text) + size > MOST_BYTES:
                raise Closed(f"more than {MOST_BYTES >> 20} MiB")
            data = self._take(size)
            if kind == PING:
                self._send(PONG, data)
            elif kind == CLOSE:
                raise Closed(f"closed by the server {data[2:].decode('utf-8', 'replace')}".rstrip())
            elif kind in (TEXT, CONTINUATION):
                text += data
                if first & 0x80:
                    return text.decode()
            elif kind != PONG:
                raise Closed(f"a frame of kind {kind}")

    def _take(self, count: int) -> bytes:
        while len(self.unread) < count:
            self._more()
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def _more(self) -> None:
        self.socket.settimeout(self._left())
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise Closed("the server is gone")
        self.unread += piece

    def _write(self, data: bytes) -> None:
        self.socket.settimeout(self._left())
        self.socket.sendall(data)

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer in {self.seconds:g} s")
        return left
