"""A connection between two workers: short messages as JSON, each with bytes behind it where there are some."""

import json
import socket
import struct
import threading
from typing import Any

#: Lengths of the message and of the bytes behind it.
_HEAD = struct.Struct(">IQ")

#: A message is a line or two; the bytes are a training's state.
_GREATEST_MESSAGE, _GREATEST_CONTENT = 1_000_000, 8_000_000_000


class Line:
    """One end; `send` from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()

    def send(self, kind: str, content: bytes = b"", **message: Any) -> None:
        """Sends a message.

        Raises:
            OSError: the other end is gone.
        """
        text = json.dumps({"kind": kind, **message}).encode()
        with self._lock:
            self._socket.sendall(_HEAD.pack(len(text), len(content)) + text)
            self._socket.sendall(content)

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Waits for a message.

        Raises:
            TimeoutError: none came.
            OSError: the other end is gone.
            ValueError: it is none of ours.
        """
        self._socket.settimeout(timeout_s)
        text_length, length = _HEAD.unpack(self._read(_HEAD.size))
        if text_length > _GREATEST_MESSAGE or length > _GREATEST_CONTENT:
            raise ValueError("no message of a worker")
        message = json.loads(self._read(text_length))
        if not isinstance(message, dict) or "kind" not in message:
            raise ValueError("no message of a worker")
        return message, self._read(length)

    def close(self) -> None:
        """Lets go of the connection."""
        self._socket.close()

    def _read(self, length: int) -> bytes:
        content = bytearray()
        while len(content) < length:
            if not (part := self._socket.recv(min(length - len(content), 1 << 20))):
                raise ConnectionResetError("the other end has gone")
            content += part
        return bytes(content)
