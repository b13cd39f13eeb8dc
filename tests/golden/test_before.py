"""The previous version reads sessions of this version, since both share a store while servers are updated."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models import rle
from serve.core.options import Options
from serve.sessions.store import SqliteStore
from tests.serve.conftest import Server, mask_of

ROOT = Path(__file__).parents[2]
BEFORE = "e532e93"
"""The commit of the previous version."""
READ = """
import json, sys
from pathlib import Path
from serve.store import SqliteStore
from serve.rules import after
from serve.settings import Settings
from serve.values import Change, Click
store = SqliteStore(Path(sys.argv[1]))
value = store.get(sys.argv[2])
clicked = after(value, Change(kind="click", click=Click(y=3.0, x=4.0)), Settings(), None)
store.commit(clicked, value.sequence)
print(json.dumps({"json": json.loads(value.to_json()), "bytes": len(store.image(value.image_sha256))}))
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the code of the previous version."""
    folder = tmp_path_factory.mktemp("before")
    done = subprocess.run(
        ["git", "archive", "--output", str(folder / "code.tar"), BEFORE, "serve", "models"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this clone does not hold the commit {BEFORE}: {done.stderr.strip()}")
    subprocess.run(["tar", "-xf", "code.tar"], cwd=folder, check=True)
    return folder


def test_previous_version_continues_a_session(before: Path, tmp_path: Path) -> None:
    store = tmp_path / "sessions.db"
    server = Server(Options(sessions=str(store)))
    session = server.open()
    server.click(session, 20, 20)
    server.change(session, "finish", label="a cup")
    server.change(session, "settings", refinement="cfr_1", mask_threshold=0.4)
    server.click(session, 30, 25, sequence=4)
    server.click(session, 31, 25, False)
    server.change(session, "undo")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(store), session], cwd=before, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    (value,) = [SqliteStore(store).get(session)]
    assert value is not None
    assert value.sequence == read["json"]["sequence"] + 1, "what the version before stored is read here"
    assert read["json"]["objects"][0]["label"] == "a cup"
    assert read["bytes"] > 0
    again = Server(Options(sessions=str(store)))
    answer = again.client.get(f"/v1/sessions/{session}/mask?format=rle")
    assert rle.decode(answer.json()).any()
    assert mask_of(again.click(session, 9, 9, sequence=value.sequence + 1)).any()
