"""MLflow is used only at the start, to find the model. No click waits for it or is sent to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from models import checkpoint
from tests.training.toys import TOYS

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import numpy as np
from fastapi.testclient import TestClient
from serve.http.app import create_app
from serve.core.options import Options
from serve.loading.build import build_engine
from tests.serve.conftest import encoded, picture

def loaded():
    return {name.split(".")[0] for name in sys.modules} & {"mlflow", "mlflow_skinny"}

args = Options(checkpoint=sys.argv[1], num_threads=1, device="cpu")
client = TestClient(create_app(build_engine(args), args), "http://localhost")
opened = client.post("/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"})
session = opened.json()["session_id"]
for x in (5, 9):
    answer = client.post(f"/v1/sessions/{session}/clicks", json={"x": x, "y": 5})
    assert answer.status_code == 200, answer.text
client.post(f"/v1/sessions/{session}/undo")
client.get("/v1/models")
print("loaded:", sorted(loaded()))
"""


@pytest.mark.networks
def test_code_that_answers_requests_does_not_import_mlflow() -> None:
    """Only code that starts a server imports the module that finds models; routes and engines do not."""
    code = (
        "import sys, serve.http.app, serve.engine.local_model, serve.engine.batching, serve.http.observe\n"
        "source = 'serve.loading.model_source'\n"
        "print([name for name in sys.modules if name == source or name.split('.')[0] == 'mlflow'])\n"
        "import serve.__main__, serve.deployments; print('serve.loading.model_source' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[]", "True"]


@pytest.mark.networks
@pytest.mark.timeout(120)
def test_clicks_do_not_import_mlflow(tmp_path: Path) -> None:
    folder = checkpoint.save(TOYS["simpleclick"](), tmp_path / "checkpoint")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
