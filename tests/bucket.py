"""A real S3 server on loopback, with a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Server:
    """The server; it may go away and come back, with what it holds."""

    def __init__(self) -> None:
        self._server: Any = None
        self.port = 0

    def __enter__(self) -> "Server":
        import boto3

        self.start()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        client.create_bucket(Bucket="masks")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Address of the bucket, without a key; `.format(folder=...)` makes a folder's."""
        settings = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://masks/{{folder}}?{settings}"

    def start(self) -> None:
        """Start, at the port that it had."""
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        """Go away."""
        if self._server is not None:
            self._server.stop()
            self._server = None


@contextmanager
def a_bucket() -> Iterator[str]:
    """Address of a fresh bucket, with the key and the server in it; `.format(folder=...)` makes a folder's address."""
    with Server() as server:
        yield server.address.replace("s3://", "s3://key:secret@")
