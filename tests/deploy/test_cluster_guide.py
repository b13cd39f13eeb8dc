"""docs/CLUSTER.md, as a reader would follow it on one machine: each block marked `tested`, in order, on a real Ray."""

import re
import time

import httpx
import pytest

from models.storage import Storage
from tests.docs.blocks import ROOT, blocks, shell
from tests.docs.command_lines import exists, invocations, refusal
from tests.ports import free_port

BLOCKS = blocks((ROOT / "docs/CLUSTER.md").read_text())
TESTED = [block for block in BLOCKS if block.mark == "tested"]


def test_each_block_is_tested_or_says_what_it_needs() -> None:
    assert [block.complaint() for block in BLOCKS if block.complaint()] == []
    assert len(TESTED) >= 8
    for block in BLOCKS:
        for name in re.findall(r"(?:file://|-k |-f |ray up --yes |ray dashboard )([\w./-]+)", block.text):
            assert (ROOT / name).exists(), name
        for module, argv in invocations(block.text):
            assert exists(module), module
            assert refusal(module, argv) is None, f"{module} {argv}"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_guide_from_two_machines_to_a_served_model() -> None:
    gcs, dashboard, http, agents = free_port(), free_port(), free_port(), iter(free_port() for _ in range(9))
    small = "--object-store-memory=200000000"
    with shell() as reader:
        here = {
            "=/shared ": f"={reader.home}/shared ",
            "http://mlflow.example.org:5000": f"sqlite:///{reader.home}/mlflow.db",
            "HEAD=192.168.1.10": "HEAD=127.0.0.1",
            "6379": str(gcs),
            "--dashboard-host=127.0.0.1": f"--dashboard-host=127.0.0.1 --dashboard-port={dashboard} {small}",
            ":8265": f":{dashboard}",
            "--address=$HEAD": f"--num-cpus=8 {small} --address=$HEAD",
            "serve/config.yaml >": f"serve/config.yaml | sed 's|: 8000|: {http}|' >",
        }
        (reader.home / "shared").mkdir()
        used: set[str] = set()
        for block in TESTED:
            text = block.text
            for name, place in here.items():
                if name in text:
                    used.add(name)
                    text = text.replace(name, place)
            # Two raylets of one machine: each needs ports of its agent, and a reader's have them to themselves.
            text = re.sub(r"ray start", lambda _: f"ray start --dashboard-agent-listen-port={next(agents)}", text)
            for _ in range(20):
                done = reader.run(block.with_text(text))
                # The head answers some seconds before it has an agent to run jobs.
                early = "No available agent to submit job" in done.output or "RAY_API_SERVER" in done.output
                if done.code == 0 or not early:
                    break
                time.sleep(3)
            assert done.code == 0, f"line {block.line}:\n{text}\n{done.output[-6000:]}"
        assert used == set(here)
        shared = Storage(str(reader.home / "shared"))
        assert shared.exists("runs/first/checkpoint/checkpoint.json")
        assert shared.exists("evaluated/first/summary.json")
        deadline = time.monotonic() + 200
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{http}/v1/health/ready", timeout=10).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline, done.output
            time.sleep(2)
