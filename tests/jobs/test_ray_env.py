"""Which Ray a job joins, which resources it requests, and what it prints while it waits."""

import http.server
import socket
import threading
from pathlib import Path

import pytest

from jobs.ray_env import LOCAL, RECORD, UNASKED, chosen, connected, fit_actors, fit_evaluation, refuse_nodes
from jobs.ray_pending import Waits, shown
from models.errors import InputError
from pipeline.evaluation.config import EvaluationScaling
from pipeline.nodes import SLIVER, placed
from pipeline.training.config import ScalingConfig


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which `ray start` would record a cluster; RAY_ADDRESS is not set."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


class TestChosen:
    def test_without_an_address_a_separate_ray_is_used(self, record: Path) -> None:
        assert chosen() == (LOCAL, "")

    def test_the_flag_overrides_the_environment_and_that_the_record(
        self, record: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record.write_text("192.0.2.1:6379\n")
        assert chosen() == ("192.0.2.1:6379", RECORD)
        monkeypatch.setenv("RAY_ADDRESS", "192.0.2.2:6379")
        assert chosen() == ("192.0.2.2:6379", "RAY_ADDRESS")
        assert chosen("192.0.2.3:6379") == ("192.0.2.3:6379", "--ray")
        assert chosen("local")[0] == LOCAL

    def test_auto_means_the_record_and_never_another_running_ray(
        self, record: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(InputError, match=r"--ray auto means what `ray start` recorded .* there is no record"):
            chosen("auto")
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        record.write_text("192.0.2.1:6379")
        assert chosen() == ("192.0.2.1:6379", RECORD)

    def test_a_record_of_a_stopped_ray_is_one_error(self, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ray.is_initialized", lambda: False)  # tests that need Ray share one
        monkeypatch.setattr("ray.shutdown", lambda: None)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            record.write_text(f"127.0.0.1:{taken.getsockname()[1]}")  # a port on which no program listens
            with (
                pytest.raises(InputError, match=r"no Ray at 127.* answers .*: clear the record with") as raised,
                connected(),
            ):
                pass
        assert "use --ray local" in str(raised.value)

    def test_another_program_at_the_address_is_detected_before_ray_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.shutdown", lambda: None)
        monkeypatch.setattr("jobs.ray_env.ANSWER_S", 1.0)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
            threading.Thread(target=other.serve_forever, daemon=True).start()
            with (
                pytest.raises(InputError, match=r"no Ray at 127.* \(--ray\) answers \(another program listens there\)"),
                connected(f"127.0.0.1:{other.server_port}"),
            ):
                pass
            other.shutdown()


def test_a_separate_ray_has_no_nodes_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", LOCAL)
    refuse_nodes("--nodes", "")
    with pytest.raises(InputError, match=r"--nodes augment: a separate Ray is on this machine only"):
        refuse_nodes("--nodes", "augment")
    with pytest.raises(InputError, match=r"--scaling\.nodes augment: "):
        fit_evaluation(EvaluationScaling(nodes="augment"))
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    refuse_nodes("--nodes", "augment")


class TestSizesOnAJoinedCluster:
    @pytest.fixture(autouse=True)
    def a_ray_that_was_joined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(
            "ray.cluster_resources", lambda: pytest.fail("the resources of a cluster that may grow were queried")
        )

    def test_a_pool_is_what_the_flags_say(self) -> None:
        assert fit_actors(40, 4.0, 100) == (40, 4.0)
        assert fit_actors(40, 4.0, 3) == (3, 4.0)
        assert fit_actors(0, 1.0, 100) == (UNASKED, 1.0)

    def test_an_evaluation_is_what_the_flags_say(self) -> None:
        wanted = EvaluationScaling(actors=12, gpu=True, num_gpus=0.5)
        assert fit_evaluation(wanted) == wanted
        assert fit_evaluation(EvaluationScaling()).actors == UNASKED

    def test_a_training_is_what_the_flags_say(self) -> None:
        from jobs.train import fit_scaling

        wanted = ScalingConfig(workers=16, gpu=True, cpus_per_worker=8)
        assert fit_scaling(wanted) == wanted


def test_nodes_are_a_resource_or_a_label() -> None:
    assert placed("") == {}
    assert placed("augment") == {"resources": {"augment": SLIVER}}
    assert placed("ray.io/accelerator-type=H100") == {"label_selector": {"ray.io/accelerator-type": "H100"}}
    for wrong in ("=H100", "kind="):
        with pytest.raises(InputError, match="expected the name of a resource, or KEY=VALUE of a label"):
            ScalingConfig(data_nodes=wrong)


class TestWaits:
    def test_a_wait_is_reported_after_a_minute_at_each_doubling_and_at_its_end(self) -> None:
        waits, said = Waits(60, 25), []
        for now in range(0, 1000, 10):
            if text := waits.look({"1 CPU + 1 GPU": 4} if now < 700 else {}, now):
                said.append((now, text.split(";")[0]))
        assert said == [
            (60, "waiting for resources for 60 s: 4 x 1 CPU + 1 GPU"),
            (120, "waiting for resources for 120 s: 4 x 1 CPU + 1 GPU"),
            (240, "waiting for resources for 240 s: 4 x 1 CPU + 1 GPU"),
            (480, "waiting for resources for 480 s: 4 x 1 CPU + 1 GPU"),
            (720, "no longer waiting for resources"),
        ]

    def test_a_repeated_request_counts_as_one_wait(self) -> None:
        waits = Waits(60, 25)
        looks = [waits.look({} if now in (30, 50) else {"1 CPU": 1}, now) for now in range(0, 70, 10)]
        assert [bool(text) for text in looks] == [False] * 6 + [True]

    def test_a_request_that_is_placed_in_time_is_not_reported(self) -> None:
        waits = Waits(60, 25)
        assert not any(waits.look({"1 CPU": 1} if now < 50 else {}, now) for now in range(0, 200, 10))

    def test_resources_are_formatted_with_their_amounts(self) -> None:
        assert shown({"GPU": 1.0, "CPU": 0.5}) == "0.5 CPU + 1 GPU"
