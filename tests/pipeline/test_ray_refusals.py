"""Refusals of real Ray workers reach the waiting process as their original message."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
import ray

from models.errors import InputError, find_input_error
from pipeline.data import ray_data
from pipeline.data.config import DataConfig
from pipeline.ray_refusals import UNCOLLECTED, Refusals, collecting
from tests.pipeline.fakes import FakeReader

BROKEN = "all 3 items are broken"


def refuse(refusals: Refusals, final: bool) -> None:
    with refusals.refusing(final=final):
        raise InputError(BROKEN)


def fill(refusals: Refusals, final: bool) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")


def divide(refusals: Refusals, final: bool) -> None:
    with refusals.refusing(final=final):
        raise ZeroDivisionError("ours")


def work(function: Callable[..., None], refusals: Refusals, *, final: bool = False) -> Any:
    made: Any = ray.remote(num_cpus=0.1)(function)
    return ray.get(made.remote(refusals, final))


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_final_refusal_replaces_rays_error(ray_cluster: None) -> None:
    with pytest.raises(InputError) as raised, collecting() as refusals:
        work(refuse, refusals, final=True)
    assert type(raised.value) is InputError
    assert str(raised.value) == BROKEN
    assert isinstance(raised.value.__cause__, ray.exceptions.RayTaskError)
    with pytest.raises(InputError, match=f"^{BROKEN}$"), collecting() as refusals, pytest.raises(InputError):
        work(refuse, refusals, final=True)  # nothing is raised by the block itself


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_other_refusals_are_collected(ray_cluster: None) -> None:
    with collecting() as refusals:
        assert refusals.newest() is None
        with pytest.raises(ray.exceptions.RayTaskError, match="ours"):
            work(divide, refusals)
        assert refusals.newest() is None
        with pytest.raises(ray.exceptions.RayTaskError):
            work(refuse, refusals)
        assert str(refusals.newest()) == BROKEN
        assert refusals.newest(final=True) is None
    for gone in (refusals, UNCOLLECTED):
        assert gone.newest() is None
        with pytest.raises(ray.exceptions.RayTaskError, match=BROKEN):
            work(refuse, gone)


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_workers_full_disk_is_one_message(ray_cluster: None) -> None:
    with pytest.raises(ray.exceptions.RayTaskError) as raised:
        work(fill, UNCOLLECTED)
    found = str(find_input_error(raised.value))
    assert found.startswith("a disk is full (")
    assert found.endswith("[Errno 28] No space left on device: 'x'): make room and run the same command again")


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_window_actors_leave_their_refusals(ray_cluster: None) -> None:
    reader = FakeReader(num_items=3, bad=(0, 1, 2))
    config = DataConfig(crop_hw=(32, 32), window_size=3)
    with collecting() as refusals:
        stream = ray_data.dataset(reader, config, range(2), refusals=refusals)
        with pytest.raises(ray.exceptions.RayError):
            list(stream.iter_rows())
        assert str(refusals.newest()).startswith("none of the 3 items of window ")
        assert "\n" not in str(refusals.newest())  # without Ray's advice on its settings
