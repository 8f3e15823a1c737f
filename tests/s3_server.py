"""A real S3 server for tests, and what they ask of it past the project: buckets and their bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config

PROGRAM = Path(__file__).with_name("s3_server_program.py")
KEYS = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_REGION": "eu-north-1",
}


class S3Server:
    """The server of this worker; each test has a bucket of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        self.variables = {**KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true"}
        """What a process must know to use it: as environment, or as options of a lake."""
        self._client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_REGION"],
            config=Config(s3={"addressing_style": "path"}),
        )
        self._buckets = 0

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        self._buckets += 1
        name = f"lake-{self._buckets}"
        place = {"LocationConstraint": KEYS["AWS_REGION"]}
        self._client.create_bucket(Bucket=name, CreateBucketConfiguration=place)
        return name

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return all objects of a bucket with their bytes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {
            key: self._client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys
        }

    def unfinished_uploads(self, bucket: str) -> int:
        """Return the number of uploads that were begun and neither ended nor given up."""
        return len(self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))

    def requests(self) -> list[str]:
        """Return what was asked since the last time, as "GET /bucket/key?query"."""
        with urlopen(Request(f"{self.url}/_requests", method="DELETE")) as answer:
            asked = [json.loads(line) for line in answer.read().splitlines()]
        return [f"{one['method']} {one['path']}?{one['query']}" for one in asked]

    @contextmanager
    def faults(self, **faults: Any) -> Iterator[None]:
        """Let something go wrong within the context; see `s3_server_program.FAULTS`."""
        self._order(faults)
        try:
            yield
        finally:
            self._order({})

    def _order(self, faults: dict[str, Any]) -> None:
        body = json.dumps(faults).encode()
        with urlopen(Request(f"{self.url}/_faults", data=body, method="PUT")):
            pass

    def close(self) -> None:
        """Stop the server; its buckets were in its memory only."""
        self._client.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def start_s3_server() -> S3Server:
    """Start a server on a free port of this machine."""
    return S3Server(
        subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
