"""A small disk for a test: writing to it really fails when it is full."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory, mounted at `path`; files take whole pages of 4096 bytes."""

    path: Path

    def leave(self, num_bytes: int) -> None:
        """Resize it so that exactly `num_bytes` are free."""
        stat = os.statvfs(self.path)
        size = (stat.f_blocks - stat.f_bfree) * stat.f_frsize + num_bytes
        subprocess.run(["mount", "-o", f"remount,size={max(4096, size)}", str(self.path)], check=True)

    def check_whole(self) -> None:
        """Check that every file is complete, except those that only Ray Tune reads."""
        for path in (path for path in self.path.rglob("*") if path.is_file() and "tune" not in path.parts):
            # When a worker has failed, its pool is killed; as Ray keeps running here, the others die a moment later.
            assert path.suffix != ".part" or path.parent.name == "data", path
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                assert path.read_text()[-1:] in ("", "\n"), path
                [json.loads(line) for line in path.read_text().splitlines()]
            elif path.suffix == ".parquet":
                pq.read_table(path)
            elif path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>"), path
            elif path.suffix in (".png", ".jpg"):
                assert path.read_bytes()[-2:] in (b"\xff\xd9", b"\x60\x82"), path


def mounted(folder: Path, size: int) -> SmallDisk | None:
    """Mount one at a new folder, which the caller unmounts; return None if mounting is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        return None
    return SmallDisk(folder)
