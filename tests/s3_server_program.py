"""An S3 server in a process of its own: moto's, with a book of requests and with faults on order.

A process of its own, because the lake's libraries hold Python's lock while they wait for it. It
prints its port. Beside S3 it answers, at paths that no bucket can have:

    DELETE /_requests    what was asked since the last time, as JSON lines, and forgets it
    PUT /_faults         what shall go wrong, see `FAULTS`; an empty object: nothing
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

FAULTS: dict[str, Any] = {}
"""`ignore_conditions`: true for a store that knows no If-None-Match. `lost_answer`: a part of a
path; the next PUT of one is carried out, and its connection cut before the answer; with
`gone_after`, everything is answered by 503 from then on. `refused`: a part of a path; the next
PUT is answered by 503 and not carried out, `times` times."""

REQUESTS: list[dict[str, str]] = []
ONE_AT_A_TIME = threading.Lock()
"""S3 looks whether a name is free and takes it in one step; moto, asked by threads, in two."""

s3 = DomainDispatcherApplication(create_backend_app)


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path == "/_requests":
        told = "".join(json.dumps(one) + "\n" for one in REQUESTS)
        REQUESTS.clear()
        return _answer(start, told.encode())
    if path == "/_faults":
        FAULTS.clear()
        FAULTS.update(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        return _answer(start, b"")
    REQUESTS.append({"method": method, "path": path, "query": environ.get("QUERY_STRING", "")})
    if FAULTS.get("ignore_conditions"):
        environ.pop("HTTP_IF_NONE_MATCH", None)
    if FAULTS.get("gone"):
        return _answer(start, b"", "503 Slow Down")
    if method == "PUT" and FAULTS.get("refused", "\0") in path and FAULTS["times"] > 0:
        FAULTS["times"] -= 1
        return _answer(start, b"", "503 Slow Down")
    if method == "PUT" and FAULTS.get("lost_answer", "\0") in path:
        del FAULTS["lost_answer"]
        FAULTS["gone"] = FAULTS.pop("gone_after", False)
        _ask_moto(environ, lambda *_: None)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return _answer(start, b"")
    return _ask_moto(environ, start)


def _ask_moto(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    if "HTTP_IF_NONE_MATCH" in environ:
        with ONE_AT_A_TIME:
            return list(s3(environ, start))
    return list(s3(environ, start))


def _answer(start: Callable[..., Any], body: bytes, status: str = "200 OK") -> list[bytes]:
    start(status, [("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler
    )
    print(server.server_address[1], flush=True)
    server.serve_forever()
