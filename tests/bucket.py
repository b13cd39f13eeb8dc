"""A real S3 server on loopback, with a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Server:
    """An S3 server that can be stopped and started again with its contents."""

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
        """Start, on the previous port if there was one."""
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None


@contextmanager
def a_bucket() -> Iterator[str]:
    """Yield the address of a new bucket, including key and server; `.format(folder=...)` gives that of a folder."""
    with Server() as server:
        yield server.address.replace("s3://", "s3://key:secret@")
