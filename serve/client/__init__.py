"""A client for the server, which repeats clicks safely when no answer came. No torch, no Ray.

from serve.client import Client

with Client("http://127.0.0.1:8000") as client, client.open("photo.jpg") as session:
    mask = session.click(x=120, y=200)
"""

from serve.client.live import LiveSession, ServerError
from serve.client.session import Client, RemoteSession

__all__ = ["Client", "LiveSession", "RemoteSession", "ServerError"]
