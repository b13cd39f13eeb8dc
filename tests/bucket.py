"""A real S3 server on loopback, with a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def a_bucket() -> Iterator[str]:
    """Address of a fresh bucket, with the key and the server in it; `.format(folder=...)` makes a folder's address."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="masks")
    try:
        yield f"s3://key:secret@masks/{{folder}}?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()
