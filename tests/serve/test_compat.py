"""Contracts of serve/on_ray/compat.py: the parts of Ray without a public interface exist, and work as expected."""

import importlib
import inspect
import os
from collections.abc import Iterator

import pytest
import ray
import ray.serve as ray_serve
from ray.serve.handle import DeploymentHandle

from serve.on_ray import compat


@pytest.fixture
def serving_ray(ray_cluster: None) -> Iterator[None]:
    yield
    ray_serve.shutdown()


def test_ray_has_the_router() -> None:
    module, name = compat.ROUTER.split(":")
    assert hasattr(importlib.import_module(module), name), "the router by session id has moved: see compat.ROUTER"
    assert compat.affinity(), "deployments take no router by its path any more: see compat.affinity"


def test_deployments_have_default_options_without_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(**_: object) -> None:
        raise AttributeError

    monkeypatch.setattr(compat, "RequestRouterConfig", gone)
    assert compat.affinity() == {}


def test_ray_accepts_the_port_of_metrics() -> None:
    (option,) = compat.start_options(8080)
    # One of its **kwargs, of which it refuses those that it does not know.
    assert f'"{option}"' in inspect.getsource(ray.init), "ray.init has no port of metrics: see compat.start_options"
    assert compat.start_options(0) == {}


def test_calls_by_value_are_used_only_if_ray_has_them() -> None:
    assert "_by_reference" in inspect.signature(DeploymentHandle.options).parameters, "see compat.by_value"

    class Without:
        def options(self, *, session_id: str = "") -> None: ...

    handle = Without()
    assert compat.by_value(handle) is handle


def test_a_version_that_was_not_tested_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compat.untried() is None, "this version of Ray is not in compat.TRIED"
    monkeypatch.setattr(ray, "__version__", "2.99.0")
    assert "2.99.0 was not tested" in str(compat.untried())


@ray_serve.deployment(num_replicas=3, ray_actor_options={"num_cpus": 0}, **compat.affinity())
class Process:
    def pid(self) -> int:
        return os.getpid()


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("serving_ray")
def test_a_session_returns_to_its_replica() -> None:
    assert not compat.serve_runs()
    handle = ray_serve.run(Process.bind(), name="affinity", route_prefix=None)
    assert compat.serve_runs(), "Ray Serve runs and is not found: see compat.CONTROLLER"
    sessions = [f"session-{number}" for number in range(20)]
    first = {session: handle.options(session_id=session).pid.remote().result() for session in sessions}
    assert len(set(first.values())) > 1, "all sessions go to one replica"
    for session in sessions * 3:
        assert handle.options(session_id=session).pid.remote().result() == first[session]
        assert compat.by_value(handle.options(session_id=session)).pid.remote().result() == first[session]
