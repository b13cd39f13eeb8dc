"""The ports that a server opens to other machines, in a network namespace without any other sockets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.test_model import small_checkpoint

__all__ = ["small_checkpoint"]
ROOT = Path(__file__).parents[2]
UNSHARE = shutil.which("unshare")


def can_unshare() -> bool:
    return UNSHARE is not None and subprocess.run([UNSHARE, "-rn", "true"], capture_output=True).returncode == 0


@pytest.mark.check(28)
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not can_unshare(), reason="no network namespaces here")
def test_ports_open_to_other_machines_require_rays_token(small_checkpoint: Path, tmp_path: Path) -> None:
    """The checks inside the namespace are in tests/serve/listening.py."""
    assert UNSHARE is not None
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [UNSHARE, "-rn", sys.executable, "-m", "tests.serve.listening", str(small_checkpoint), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout)
