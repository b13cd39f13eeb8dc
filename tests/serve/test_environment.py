"""A machine that only serves needs only the `serve` extra: a new environment with it answers clicks."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs import tracking
from models import box
from serve.client import Client
from tests.serve.conftest import encoded
from tests.serve.processes import ROOT, served

TRAINING = {"albumentations", "matplotlib", "mlflow", "optuna", "pycocotools", "scipy"}
LIST = "import importlib.metadata as m; print(*(each.name for each in m.distributions()))"


def built(folder: Path) -> Path:
    """Python of a new environment with the `serve` extra, made of the files that cluster.yaml mounts."""
    for file in yaml.safe_load((ROOT / "cluster.yaml").read_text())["file_mounts"].values():
        shutil.copy(ROOT / file, folder)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", ".[serve]"]
    subprocess.run(install, cwd=folder, check=True)
    return python


def registered(folder: Path) -> str:
    """Tracking URI of a new registry in which models:/clicks@champion is the model in the box."""
    uri = f"sqlite:///{folder}/mlflow.db"
    tracking.register(uri, tracking.start_run(uri, "clicks", {}), box.DEFAULT, name="clicks", alias="champion")
    return uri


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_an_environment_without_training_can_serve(tmp_path: Path) -> None:
    python = built(tmp_path)
    try:
        listed = subprocess.run([python, "-c", LIST], capture_output=True, text=True, check=True).stdout.split()
        assert {"maskwright", "ray", "torch"} <= set(listed)
        assert not TRAINING & set(listed)
        for checkpoint, options in (
            (box.DEFAULT, ["--plain"]),
            (box.DEFAULT, []),
            ("models:/clicks@champion", ["--plain", "--tracking-uri", registered(tmp_path)]),
        ):
            with served(checkpoint, tmp_path, *options, python=python) as running:
                assert_answers(running.address)
    finally:
        shutil.rmtree(tmp_path / "venv")  # 2 GB, which pytest would keep


def assert_answers(address: str) -> None:
    image = np.full((96, 128, 3), 30, np.uint8)
    image[30:60, 40:80] = (200, 40, 40)
    with Client(address) as client, client.open(encoded(image)) as session:
        mask = session.click(x=60, y=45)
        assert mask[45, 60]
        assert 0.5 < mask.sum() / (30 * 40) < 2
