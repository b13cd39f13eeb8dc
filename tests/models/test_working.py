"""Working folders for addresses exist while the job lives, and are removed after it was killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from models.working import working
from tests.bucket import Server

HOLDS = """
import sys, time
from models.working import working
with working(sys.argv[1]) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""
ROOT = Path(__file__).parents[2]


def test_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Server() as server:
        place = server.address.format(folder="x")
        environ = os.environ | {"TMPDIR": str(tmp_path)}
        folders = []
        jobs = []
        for _ in range(2):
            job = subprocess.Popen(
                [sys.executable, "-c", HOLDS, place], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
            )
            assert job.stdout is not None
            folders.append(Path(job.stdout.readline().strip()))
            jobs.append(job)
        jobs[0].send_signal(signal.SIGKILL)
        jobs[0].wait()
        with working(place):  # they are as young as one that is not locked yet
            assert all(folder.is_dir() for folder in folders)
        for folder in folders:
            os.utime(folder / ".address", (time.time() - 100,) * 2)
        with working(place) as mine:
            assert [folder.is_dir() for folder in folders] == [False, True]
        assert not mine.exists()
        jobs[1].kill()
        jobs[1].wait()
