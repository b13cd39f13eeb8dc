"""A real redis-server for tests, on a socket in a folder with a short path, because socket paths are limited."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import redis

from tests.programs import require


class RedisServer:
    """Started with `start`, killed with `kill`; with `persistent` what it has answered survives that."""

    def __init__(self, *options: str, persistent: bool = False, password: str | None = None) -> None:
        self._program = require("redis-server")
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.url = f"unix://{self.folder}/s"
        self.password = password
        self._options = ["--port", "0", "--unixsocket", f"{self.folder}/s", "--dir", str(self.folder), "--save", ""]
        self._options += ["--appendonly", "yes", "--appendfsync", "always"] if persistent else []
        self._options += ["--requirepass", password] if password else []
        self._options += options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RedisServer":
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *self._options], stdout=log, stderr=log)
        for _ in range(200):
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.RedisError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=f"{self.folder}/s", password=self.password)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "RedisServer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder)
