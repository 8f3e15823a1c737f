"""A proxy in front of a Redis socket that cuts connections and withholds answers."""

from __future__ import annotations

import select
import socket
import threading
from pathlib import Path

CUT = "cut"
WITHHOLD = "withhold"


class Proxy:
    """Forwards connections from one unix socket to another; `arm` says what goes wrong next.

    With CUT the connection ends after so many bytes of commands went through, often in the
    middle of one. With WITHHOLD the commands go through, and their answers never come back.
    """

    def __init__(self, path: Path, server: str) -> None:
        self.url = f"unix://{path}"
        self.struck = 0
        self._server = server
        self._armed: tuple[str, int] | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def arm(self, fault: str, after: int) -> None:
        """Let this happen once, after so many bytes of commands."""
        self._armed = (fault, after)

    @property
    def armed(self) -> bool:
        """Whether the fault has yet to happen."""
        return self._armed is not None

    def close(self) -> None:
        """Accept no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with client, server:
            try:
                server.connect(self._server)
                self._forward(client, server)
            except OSError:
                return  # One side has gone; the other is closed with it.

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        withheld = False
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                fault, after = self._armed or ("", len(data))
                if self._armed is not None and after <= len(data):
                    self._armed = None
                    self.struck += 1
                    if fault == CUT:
                        server.sendall(data[:after])
                        return
                    withheld = True
                elif self._armed is not None:
                    self._armed = (fault, after - len(data))
                server.sendall(data)
            if server in ready:
                answer = server.recv(65536)
                if not answer:
                    return
                if not withheld:
                    client.sendall(answer)
