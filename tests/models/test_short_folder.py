"""TMPDIR may have any length: Ray's sockets fit, and its files are still written to TMPDIR."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from models import short_folder
from models.errors import InputError
from models.short_folder import fits, prepare_ray_tmpdir

LONG = "a folder with a name of more than sixty bytes, as batch systems/make them"
REPOSITORY = Path(__file__).parents[2]
JOBS = """
from jobs.ray_env import connected
with connected(num_cpus=1):
    import ray
    print(ray.get(ray.remote(lambda: 6 * 7).remote()))
"""
SERVE = """
from serve.on_ray.environment import prepare_ray_auth
prepare_ray_auth()
from serve.on_ray.serving import connect
assert connect()
import ray
print(ray.get(ray.remote(lambda: 6 * 7).remote()))
ray.shutdown()
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for short links, for one test only; only much longer paths count as long."""
    place = tmp_path / "s"
    place.mkdir()
    monkeypatch.setattr(short_folder, "PLACES", (str(place),))
    monkeypatch.setattr(short_folder, "MOST", len(str(place)) + len(short_folder.BELOW) + 30)
    return place


def prepared(**environ: str) -> dict[str, str]:
    prepare_ray_tmpdir(environ)
    return environ


@pytest.mark.ray
@pytest.mark.parametrize(
    "code", [pytest.param(JOBS, id="jobs"), pytest.param(SERVE, id="serve", marks=pytest.mark.slow)]
)
def test_ray_starts_below_a_long_folder(code: str, tmp_path: Path) -> None:
    folder = tmp_path / LONG
    folder.mkdir(parents=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {"TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr[-3000:]
    assert "too long" not in done.stderr
    assert [path for path in folder.glob("ray/session_*/logs") if any(path.iterdir())]


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_folder_is_reached_by_a_short_link(name: str, places: Path, tmp_path: Path) -> None:
    folder = tmp_path / LONG
    environ = prepared(**{name: str(folder)})
    link = Path(environ["RAY_TMPDIR"])
    assert environ[name] == str(link)
    assert fits(link)
    assert not fits(folder)
    assert link.resolve() == folder
    assert stat.S_IMODE(link.parent.stat().st_mode) == 0o700
    assert prepared(**{name: str(folder)})["RAY_TMPDIR"] == str(link), "it does not pile up"
    other = Path(prepared(TMPDIR=str(tmp_path / LONG / "other"))["RAY_TMPDIR"])
    assert other.resolve() == tmp_path / LONG / "other"
    (tmp_path / LONG / "other").rmdir()
    prepared(**{name: str(folder)})
    assert not other.is_symlink(), "what leads nowhere is removed"


def test_short_folder_is_kept(places: Path) -> None:
    assert prepared(TMPDIR=str(places)) == {"TMPDIR": str(places)}
    both = prepared(RAY_TMPDIR=str(places), TMPDIR=str(places / "x"))
    assert both == {"RAY_TMPDIR": str(places), "TMPDIR": str(places / "x")}
    assert not list(places.iterdir())


def test_folder_of_another_user_is_skipped(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, elsewhere = tmp_path / "t", tmp_path / "u"
    taken.mkdir()
    elsewhere.mkdir()
    mine = f"maskwright-{os.getuid()}"
    (taken / mine).symlink_to(elsewhere)
    monkeypatch.setattr(short_folder, "PLACES", (str(tmp_path / "absent"), str(taken), str(places)))
    assert Path(prepared(TMPDIR=str(tmp_path / LONG))["RAY_TMPDIR"]).parent == places / mine
    assert not list(elsewhere.iterdir())
    # A foreign link in the place of ours is not followed either.
    (link,) = (places / mine).iterdir()
    link.unlink()
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"TMPDIR=.* is too long for Ray's sockets.*: set RAY_TMPDIR to a path"):
        prepared(TMPDIR=str(tmp_path / LONG))


def test_a_folder_that_cannot_be_used_is_named(places: Path) -> None:
    (places / "file").write_text("")
    with pytest.raises(InputError, match=r"TMPDIR=\S+/file/x cannot be used: Not a directory; set it to a folder"):
        prepared(TMPDIR=str(places / "file" / "x"))


def test_private_folder_replaces_rays_folder_of_another_user(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places / "ray").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != places / "ray")
    mine = places / f"maskwright-{os.getuid()}"
    assert prepared(TMPDIR=str(places))["RAY_TMPDIR"] == str(mine)
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
