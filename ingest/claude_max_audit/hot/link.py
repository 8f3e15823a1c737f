"""The line to one Redis: many commands in one round trip, and failures by their kind.

The hot store's modules speak to Redis only through here. Commands of one call go out and
are answered in order on one connection; they are not a transaction. A call that fails half
way gives its connection up, so that no reply is ever taken for another's. Nothing here
knows what a key means, and nothing is tried twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from claude_max_audit.errors import AuditError, RedisRefusedError, RedisUnavailableError
from claude_max_audit.settings import ANSWER_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from redis import ConnectionPool

Command = tuple[Any, ...]
"""One command with its arguments: text, bytes, whole numbers or floats."""

_PASSING_TROUBLE = ("BUSY ", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")
"""How error replies begin that another try may not meet."""

_READ_BYTES = 256 * 1024

_NOT_YET = object()

_SHARED_OPTIONS = frozenset(
    {
        "host",
        "port",
        "db",
        "path",
        "username",
        "password",
        "credential_provider",
        "client_name",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
    }
)
"""Options (beside `ssl_...`) that mean the same to redis-py's asyncio and plain connections."""


class RedisLink:
    """A pool of connections to one Redis. Thread-safe, and whole again after a fork."""

    def __init__(self, pool: ConnectionPool, *, owned: bool, address: str | None = None) -> None:
        self._pool = pool
        self._owned = owned
        self.address = address or _address_of(pool.connection_kwargs)

    @classmethod
    def open(cls, url: str) -> RedisLink:
        """Prepare a line to redis://, rediss:// or unix://; nothing is connected yet.

        Options in the URL's query win over ours. Raises `ValueError` for another scheme.
        """
        from redis import ConnectionPool
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        pool = ConnectionPool.from_url(
            url,
            protocol=3,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=ANSWER_TIMEOUT_SECONDS,
        )
        return cls(pool, owned=True)

    @classmethod
    def adopt(cls, client: Any, address: str | None = None) -> RedisLink:
        """Use a caller's `redis.Redis`, or the address of its `redis.asyncio.Redis`.

        The first lends its connections, whatever it decodes; of the second only the options
        are taken. Raises `TypeError` for anything else.
        """
        from redis import ConnectionPool
        from redis.asyncio import ConnectionPool as AsyncConnectionPool

        pool = getattr(client, "connection_pool", None)
        if isinstance(pool, ConnectionPool):
            return cls(pool, owned=False, address=address)
        if isinstance(pool, AsyncConnectionPool):
            return cls(_plain_pool(pool), owned=True, address=address)
        raise TypeError(
            "redis_client must be a redis.Redis or redis.asyncio.Redis, "
            f"not {type(client).__name__}"
        )

    def close(self) -> None:
        """Close our own connections; a caller's client stays as it is."""
        if self._owned:
            self._pool.disconnect()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send all commands, return all replies as Redis gives them, text as bytes.

        Raises `RedisUnavailableError` or `RedisRefusedError`; commands before and after the
        one that failed may have been carried out.
        """
        if not commands:
            return []
        with self._connection() as connection:
            connection.send_packed_command([_packed(commands)])
            replies = _read(connection, len(commands))
        return self.without_errors(replies)

    def ask_packed(self, commands: Sequence[bytes]) -> list[Any]:
        """As `ask`, of commands whose bytes are made already (`hot/resp.py`): thousands of them
        in a third of the time, because replies are taken off the line many at once."""
        if not commands:
            return []
        with self._connection() as connection:
            connection.send_packed_command([b"".join(commands)])
            replies = _read_many(connection, len(commands))
        return self.without_errors(replies)

    def send(self, parts: Iterable[bytes], count_replies: Callable[[], int]) -> Any:
        """Send packed commands part by part, while later parts are still being made.

        `count_replies` is called after the last part. Returns the last reply, None without
        any; raises as `ask` does.
        """
        with self._connection() as connection:
            connection.send_packed_command(parts)
            replies = _read(connection, count_replies())
        return self.without_errors(replies)[-1] if replies else None

    def change_unless_touched(
        self,
        watched: Sequence[str],
        look: Sequence[Command],
        decide: Callable[[list[Any]], Sequence[Command]],
    ) -> bool:
        """Look, decide, and carry the decision out whole, unless a watched key has changed.

        Returns whether the commands of `decide` (perhaps none) were carried out. Raises as
        `ask` does.
        """
        with self._connection() as connection:
            replies = self._exchange(connection, [("WATCH", *watched), *look])
            changes = decide(replies[1:])
            if not changes:
                self._exchange(connection, [("UNWATCH",)])
                return True
            replies = self._exchange(connection, [("MULTI",), *changes, ("EXEC",)])
            return replies[-1] is not None

    def _exchange(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        connection.send_packed_command([_packed(commands)])
        return self.without_errors(_read(connection, len(commands)))

    def take_connection(self) -> Any:
        """A connection of the pool, to be given back; raises as `ask` does."""
        with self.failures_named():
            return self._pool.get_connection()

    def give_back(self, connection: Any, *, in_step: bool) -> None:
        """Return a connection; unless every reply was read (`in_step`), it is closed first."""
        if not in_step:
            connection.disconnect()
        self._pool.release(connection)

    @contextmanager
    def failures_named(self) -> Iterator[None]:
        """Raise what goes wrong on a connection as ours."""
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            raise self._failure(error) from error

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self.take_connection()
        in_step = False
        try:
            with self.failures_named():
                yield connection
            in_step = True
        finally:
            # After a failure or an interrupt, replies may be outstanding.
            self.give_back(connection, in_step=in_step)

    def without_errors(self, replies: list[Any]) -> list[Any]:
        """The replies, unless one of them is an error, which is raised as ours."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._failure(reply) from reply
        return replies

    def _failure(self, error: Exception) -> AuditError:
        """The error as ours: whether to try again, or what to mend."""
        from redis import exceptions

        reason = str(error) or type(error).__name__
        refused = isinstance(error, exceptions.AuthenticationError) or (
            isinstance(error, exceptions.ResponseError) and not reason.startswith(_PASSING_TROUBLE)
        )
        if refused:
            return RedisRefusedError(self.address, reason)
        return RedisUnavailableError(self.address, reason)


def _packed(commands: Sequence[Command]) -> bytes:
    """The commands' bytes, text always as UTF-8, whatever a caller's client is set to."""
    from hiredis import pack_command

    return b"".join(map(pack_command, commands))


def _read(connection: Any, count: int) -> list[Any]:
    """The next replies. Error replies stand among them, so that those after are read too."""
    from redis.exceptions import ConnectionError as Broken
    from redis.exceptions import ResponseError

    read = connection.read_response
    replies: list[Any] = []
    for _ in range(count):
        try:
            replies.append(read(disable_decoding=True))
        except Broken:
            raise
        except ResponseError as refused:
            replies.append(refused)
    return replies


def _read_many(connection: Any, count: int) -> list[Any]:
    """As `_read`, with a reader of its own: between two calls nothing waits in redis-py's."""
    from hiredis import PushNotification, Reader
    from redis.exceptions import InvalidResponse, ResponseError

    reader = Reader(
        protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_NOT_YET
    )
    receive, feed, gets = connection._sock.recv, reader.feed, reader.gets
    replies: list[Any] = []
    while len(replies) < count:
        data = receive(_READ_BYTES)
        if not data:
            raise ConnectionError("connection closed by the server")
        feed(data)
        while (reply := gets()) is not _NOT_YET:
            if not isinstance(reply, PushNotification):
                replies.append(reply)
    return replies


def _plain_pool(pool: Any) -> ConnectionPool:
    """A pool of plain connections to where an asyncio pool's go."""
    import redis.connection

    options = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if value is not None and (name in _SHARED_OPTIONS or name.startswith("ssl_"))
    }
    options.setdefault("socket_connect_timeout", CONNECT_TIMEOUT_SECONDS)
    options.setdefault("socket_timeout", ANSWER_TIMEOUT_SECONDS)
    connection_class = getattr(redis.connection, pool.connection_class.__name__)
    return redis.ConnectionPool(connection_class=connection_class, protocol=3, **options)


def _address_of(options: dict[str, Any]) -> str:
    """Where a connection goes, without user or password."""
    if options.get("path"):
        return f"unix:{options['path']}"
    place = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{place}/{options['db']}" if options.get("db") else place
