"""The Serve config of deploy/kuberay/service.yaml on a real cluster: `serve deploy`, then a click with a token."""

import subprocess
import time
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import yaml

from serve.client import Client
from serve.core.tokens import new_token
from tests.deploy.manifests import FOLDER
from tests.jobs.test_head import head
from tests.jobs.test_submit import ENVIRONMENT, RAY
from tests.ports import free_port
from tests.serve.redis_server import RedisServer

ROOT = Path(__file__).parents[2]


def the_config(tokens: Path, redis: str, port: int) -> str:
    """Return the config of the manifest, with the file of tokens, Redis and port of this test."""
    (document,) = yaml.safe_load_all((FOLDER / "service.yaml").read_text())
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    config["http_options"]["port"] = port
    (application,) = config["applications"]
    application["args"] |= {"tokens": str(tokens), "sessions": redis}
    return yaml.safe_dump(config)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_same_application_is_deployed_and_answers(tmp_path: Path) -> None:
    secret, line = new_token("anna", "annotator")
    (tmp_path / "tokens").write_text(line + "\n")
    store, port, dashboard, http = (free_port() for _ in range(4))
    address = f"http://127.0.0.1:{dashboard}"
    with RedisServer("--port", str(store), "--bind", "127.0.0.1") as redis:
        (tmp_path / "serve.yaml").write_text(the_config(tmp_path / "tokens", redis.url, http))
        # As in the image, replicas find the code by PYTHONPATH from any folder.
        with head(store, port, dashboard, num_cpus=8, PYTHONPATH=str(ROOT)):
            command = [str(RAY.with_name("serve")), "deploy", "--address", address, str(tmp_path / "serve.yaml")]
            subprocess.run(command, env=ENVIRONMENT, check=True, timeout=60)
            wait_until_running(address)
            probed = httpx.get(f"http://127.0.0.1:{http}/v1/health/ready")
            assert probed.status_code == 200
            assert httpx.get(f"http://127.0.0.1:{http}/v1/models").status_code == 401
            photo = np.full((60, 80, 3), 200, np.uint8)
            cv2.circle(photo, (40, 30), 15, (20, 20, 200), -1)
            encoded = cv2.imencode(".png", photo)[1].tobytes()
            with Client(f"http://127.0.0.1:{http}", token=secret) as client, client.open(encoded) as session:
                mask = session.click(x=40, y=30)
                assert mask[30, 40]
                assert redis.client().dbsize() > 0
            wrong = the_config(tmp_path / "tokens", redis.url, http).replace("maskwright:lite_s", "/no/such/checkpoint")
            (tmp_path / "serve.yaml").write_text(wrong)
            subprocess.run(command, env=ENVIRONMENT, check=True, timeout=60)
            message = until_it_failed(address)
            assert "/no/such/checkpoint" in message
            assert "'Correction' does not exist" not in message
            assert (
                httpx.get(f"http://127.0.0.1:{http}/v1/health/ready").status_code == 200
            )  # the old version keeps serving


def until_it_failed(address: str) -> str:
    """Wait until Ray Serve marks the application as failed, and return its messages and those of its deployments."""
    deadline = time.monotonic() + 300
    while True:
        (application,) = httpx.get(f"{address}/api/serve/applications/").json()["applications"].values()
        said = [application["message"], *(each["message"] for each in application["deployments"].values())]
        if any("/no/such/checkpoint" in each for each in said) or application["status"] == "DEPLOY_FAILED":
            return "\n".join(said)
        assert time.monotonic() < deadline, application
        time.sleep(1)


def wait_until_running(address: str) -> None:
    deadline = time.monotonic() + 300
    while True:
        (application,) = httpx.get(f"{address}/api/serve/applications/").json()["applications"].values()
        if application["status"] == "RUNNING":
            return
        assert application["status"] != "DEPLOY_FAILED", application["message"]
        assert time.monotonic() < deadline, application
        time.sleep(1)
