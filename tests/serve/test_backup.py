"""The commands of docs/OPERATE.md that back up and restore: everything that was saved is restored."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

from jobs import backup
from models.errors import InputError
from serve.core.options import Options
from tests.ports import free_port
from tests.programs import require
from tests.serve.conftest import Server
from tests.serve.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
OPERATE = (ROOT / "docs/OPERATE.md").read_text()
BACKUP = OPERATE.partition("## Backup and restore")[2].partition("\n## ")[0]


def run(title: str, folder: Path, block: int = 0, text: str = BACKUP, **names: str) -> None:
    """Run a block of commands after the paragraph that begins with `title`, in a folder, with names replaced."""
    after = text.partition(title)[2]
    commands = [re.sub(r"^    ", "", each, flags=re.M) for each in re.findall(r"(?:^    .+\n)+", after, re.M)][block]
    for name, value in names.items():
        assert name in commands
        commands = commands.replace(name, value)
    for command in commands.splitlines():
        ours = re.sub(r"^python ", f"{sys.executable} ", command)
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(ours, shell=True, cwd=folder, check=True, timeout=60, env=environ)


@contextmanager
def server(sessions: str) -> Iterator[Server]:
    running = Server(Options(sessions=sessions))
    with running.client:
        yield running


def clicked(server: Server) -> str:
    session = server.open()
    server.click(session, 5, 5)
    server.click(session, 9, 7)
    return session


def goes_on(server: Server, session: str) -> None:
    assert len(server.client.get(f"/v1/sessions/{session}").json()["clicks"]) == 2
    assert server.click(session, 12, 9)["num_clicks"] == 3


def test_sessions_in_a_file(tmp_path: Path) -> None:
    with server(str(tmp_path / "SESSIONS.db")) as running:
        session = clicked(running)
        run("**Sessions** are", tmp_path)  # while it serves
        clicked(running)  # after the copy: lost
    (tmp_path / "SESSIONS.db").write_bytes(b"damaged")
    assert (tmp_path / "BACKUP.db").stat().st_mode & 0o777 == 0o600
    run("**Sessions** are", tmp_path, block=1)
    with server(str(tmp_path / "SESSIONS.db")) as again:
        goes_on(again, session)
        assert again.client.get("/v1/health").json()["sessions"] == 1


@pytest.mark.networks
def test_sessions_in_redis(tmp_path: Path) -> None:
    require("redis-server")
    port = str(free_port())
    with RedisServer("--port", port, "--bind", "127.0.0.1") as redis:
        with server(redis.url) as running:
            session = clicked(running)
            after = BACKUP.partition("**Sessions in Redis.**")[2]
            dump, restore = re.findall(r"^    (.+)$", after, re.M)[:2]
            dump = dump.replace("HOST:PORT", f"127.0.0.1:{port}")
            subprocess.run(dump, shell=True, cwd=tmp_path, check=True, timeout=60)
        redis.kill()
        subprocess.run(restore.replace("DIR", str(redis.folder)), shell=True, cwd=tmp_path, check=True)
        redis.start()
        with server(redis.url) as again:
            goes_on(again, session)


@pytest.mark.networks
def test_runs_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "BACKUP").mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("clicks", artifact_location=str(tmp_path / "mlartifacts"))
    started = client.create_run(experiment)
    client.log_text(started.info.run_id, "weights", "model/weights.txt")
    client.create_registered_model("maskwright")
    for _ in range(2):
        client.create_model_version("maskwright", f"{started.info.artifact_uri}/model", started.info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    rolled_back = OPERATE.partition("## Models")[2]
    run("`--follow N`", tmp_path, text=rolled_back, **{"champion 7": "champion 1"})
    run("**Runs and models", tmp_path)
    shutil.rmtree(tmp_path / "mlartifacts")
    (tmp_path / "mlflow.db").unlink()
    shutil.copy(tmp_path / "BACKUP/mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(tmp_path / "BACKUP/mlartifacts", tmp_path / "mlartifacts")
    version = mlflow.MlflowClient(uri, uri).get_model_version_by_alias("maskwright", "champion")
    assert int(version.version) == 1
    fetched = mlflow.artifacts.download_artifacts(
        run_id=version.run_id, artifact_path="model/weights.txt", dst_path=str(tmp_path), tracking_uri=uri
    )
    assert Path(fetched).read_text() == "weights"


def test_a_wrong_name_is_refused_and_a_backup_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "is.db").write_bytes(b"no database" * 100)
    for source in ("none.db", "is.db"):
        with pytest.raises(InputError, match=rf"{source} cannot be copied: .*; expected an existing SQLite file"):
            backup.main([str(tmp_path / source), str(tmp_path / "copy.db")])
        assert not (tmp_path / "copy.db").exists()
        assert not (tmp_path / "none.db").exists()
    with pytest.raises(InputError, match=r"already exists: name a new file"):
        backup.main([str(tmp_path / "is.db"), str(tmp_path / "is.db")])
