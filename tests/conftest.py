"""Shared fixtures: one local Ray for all tests that need it, a small disk, and the folder of real images."""

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Set before these are imported: Ray reads its authentication once, and albumentations checks for updates online.
os.environ["RAY_ADDRESS"] = "local"  # do not join a cluster that `ray start` recorded on this machine
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Keys of the S3 server that tests start. Ray's processes inherit the environment in which Ray is started.
os.environ.setdefault("AWS_ACCESS_KEY_ID", "key")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "secret")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")

import pytest

from tests.small_disk import SmallDisk, mounted


def pytest_configure() -> None:
    """Collect garbage rarely: with the default threshold of 700 objects, collections take a fifth of the time."""
    gc.set_threshold(50_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that need Ray first, then groups: they take longest, so all processes end together."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("ray", "xdist_group")])


def pytest_collection_finish() -> None:
    """Exclude what was imported from garbage collection: a full collection would visit a million objects each time."""
    gc.freeze()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One local Ray, overcommitted so that small pools find CPUs on a 2-core machine."""
    import ray

    # Workers inherit this environment. MLflow's default interval of ten seconds is longer than a test trains.
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
    ray.init(
        address="local",
        num_cpus=6,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=bool(os.environ.get("MASKWRIGHT_TEST_LOGS")),
    )
    yield
    ray.shutdown()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 1.5 MB; skipped without the permission to mount one."""
    disk = mounted(tmp_path / "disk", 1500 * 1024)
    if disk is None:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images with masks; tests that need it are skipped if it is missing."""
    path = Path(os.environ.get("MASKWRIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real images at {path}; set MASKWRIGHT_DATA")
    return path
