"""Secrets from files and the environment stay in the process that uses them."""

import os
from pathlib import Path

import pytest
import ray.cloudpickle as cloudpickle

from models import checkpoint
from serve.core.options import Options
from serve.core.tokens import Secrets, find, new_token
from serve.deployments import build_app
from tests.training.toys import TOYS

HIDDEN = {"LABEL_STUDIO_API_KEY": "LS-KEY-5e1f", "MASKWRIGHT_REDIS_PASSWORD": "REDIS-77aa"}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], str, str]:
    """Return the arguments of a deployment, and the secret and the digest of its token."""
    for name, value in HIDDEN.items():
        monkeypatch.setenv(name, value)
    secret, line = new_token("anna", "annotator")
    (tmp_path / "tokens").write_text(line)
    folder = checkpoint.save(TOYS["mobile_sam"](), tmp_path / "checkpoint")
    args = {"checkpoint": str(folder), "tokens": str(tmp_path / "tokens"), "sessions": str(tmp_path / "s.db")}
    return args | {"device": "cpu"}, secret, line.split()[2]


@pytest.mark.check(29)
def test_a_deployment_carries_no_secret(said: tuple[dict[str, str], str, str]) -> None:
    args, secret, digest = said
    carried = cloudpickle.dumps(build_app(args))
    assert args["tokens"].encode() in carried, "the file's name is said"
    for each in (secret, digest, *HIDDEN.values()):
        assert each.encode() not in carried


@pytest.mark.check(29)
def test_the_process_that_answers_reads_secrets_and_shows_none(said: tuple[dict[str, str], str, str]) -> None:
    args, secret, digest = said
    options = Options.of(args)
    secrets = Secrets.of(options)
    assert find(secret, secrets.tokens).name == "anna"
    assert secrets.label_studio == HIDDEN["LABEL_STUDIO_API_KEY"]
    for each in (secret, digest, *HIDDEN.values()):
        assert each not in f"{options!r} {secrets!r}"


def test_a_password_in_the_address_of_the_sessions_is_not_shown() -> None:
    assert "hush" not in repr(Options(sessions="redis://:hush@127.0.0.1:6379/0"))


def test_the_number_of_threads_is_that_of_the_replicas_machine(said: tuple[dict[str, str], str, str]) -> None:
    (owner,) = build_app(said[0])._bound_deployment.init_args[1].values()
    options: Options = owner._bound_deployment.init_args[0]
    assert options.num_threads == 0, f"not the {os.cpu_count()} CPUs of the machine that deploys"
