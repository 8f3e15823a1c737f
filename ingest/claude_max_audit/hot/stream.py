"""Batches on their way to Redis: several in flight on one connection, answered in order.

Called by the writer's thread alone, through `HotStore.begin_batch`. The next batch is packed
and sent while Redis still works on the one before, so neither waits for the other. After
any failure all that had no answer must be sent again: the connection is given up, and the
next batch takes another.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from socket import MSG_WAITALL, SO_RCVTIMEO, SO_SNDBUF, SO_SNDTIMEO, SOL_SOCKET, socket
from typing import Any

from claude_max_audit.hot.batch import BatchPacker
from claude_max_audit.hot.link import RedisLink

_READ_BYTES = 64 * 1024

_LEAST_REPLY_BYTES = 4
"""The shortest number as a reply, so that no more is waited for than will come. (One reply, to
the first command of a first batch, may be a byte shorter; the last one makes up for it.)"""

_SEND_BYTES = 1024 * 1024
"""What the system may take in while Redis is busy, as far as it allows."""


class RedisStream:
    """Sends packed batches and reads their answers, in order.

    Holds a connection of the link's pool while anything is in flight, and none otherwise.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._connection: Any = None
        self._reader: Any = None
        self._in_flight: deque[BatchPacker] = deque()

    def begin(self, packer: BatchPacker) -> Callable[[], Any]:
        """Send a batch, part by part while the next is made; the call that it returns waits.

        That call gives the last reply of the batch. Answers must be taken in the order of
        sending. Both raise `RedisUnavailableError` or `RedisRefusedError`; after that, no
        answer of this stream comes any more.
        """
        try:
            if self._connection is None:
                self._open()
            with self._link.failures_named():
                # Replies are short, so Redis never waits for us to take them off.
                self._connection.send_packed_command(packer.parts())
        except BaseException:
            self.give_up()
            raise
        self._in_flight.append(packer)
        return lambda: self._answer_of(packer)

    def give_up(self) -> None:
        """Let go of the connection, with whatever is still on its way."""
        self._in_flight.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._link.give_back(connection, in_step=False)

    def _answer_of(self, packer: BatchPacker) -> Any:
        if not self._in_flight or self._in_flight[0] is not packer:
            raise RuntimeError("answers are taken in the order of sending, and only once")
        try:
            replies = self._receive(packer.replies)
        except BaseException:
            self.give_up()
            raise
        self._in_flight.popleft()
        if not self._in_flight:
            connection, self._connection = self._connection, None
            connection._sock.settimeout(connection.socket_timeout)
            self._link.give_back(connection, in_step=True)
        return replies[-1] if replies else None

    def _open(self) -> None:
        from hiredis import Reader
        from redis.exceptions import InvalidResponse, ResponseError

        self._connection = self._link.take_connection()
        _let_the_kernel_wait(self._connection._sock)
        self._reader = Reader(
            protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_NOT_YET
        )

    def _receive(self, count: int) -> list[Any]:
        """The next replies, all of them read before an error among them is raised."""
        from hiredis import PushNotification

        replies: list[Any] = []
        next_reply = self._reader.gets
        with self._link.failures_named():
            while len(replies) < count:
                reply = next_reply()
                if reply is _NOT_YET:
                    self._read_more(count - len(replies), first=not replies)
                elif not isinstance(reply, PushNotification):
                    replies.append(reply)
        return self._link.without_errors(replies)

    def _read_more(self, missing: int, *, first: bool) -> None:
        # redis-py's own reading takes several calls a reply, which is most of what a batch
        # of many short replies costs; its socket is what every version of it has had.
        sock = self._connection._sock
        least = _LEAST_REPLY_BYTES * (missing - 1)
        if first and least and type(sock) is socket:
            # All but the last are numbers, and of the first a part may be here already.
            data = sock.recv(least, MSG_WAITALL)
        else:
            data = sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("connection closed by the server")
        self._reader.feed(data)


def _let_the_kernel_wait(sock: Any) -> None:
    """Bound waiting by socket options instead of Python's polling before each call.

    One call then sends a whole part, or reads nearly all replies of a batch, and the
    interpreter is taken back from the program's other threads once and not for each piece.
    """
    timeout = sock.gettimeout()
    if type(sock) is not socket or timeout is None:
        return  # TLS has records of its own to wait for.
    seconds, rest = divmod(timeout, 1)
    limit = struct.pack("ll", int(seconds), int(rest * 1_000_000))
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_SNDBUF, _SEND_BYTES)
    sock.settimeout(None)


_NOT_YET = object()
