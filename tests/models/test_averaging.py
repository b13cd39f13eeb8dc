"""The mean of checkpoints, and the job that writes it."""

from pathlib import Path

import pytest
import torch

from jobs import average as job
from models import checkpoint
from models.averaging import average
from models.errors import InputError
from models.fingerprints import trained_on
from tests.models.tiny import TINY_NETWORKS, tiny_network


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two checkpoints of one network with other weights, trained on other photos."""
    networks = [tiny_network(seed) for seed in (0, 1)]
    return [
        checkpoint.save(network, tmp_path / name, photos=photos, licence=licence, refinement={"flip": True})
        for network, name, photos, licence in zip(networks, "ab", ((1, 2), (2, 3)), ("MIT", "Apache-2.0"), strict=True)
    ]


def test_weights_are_averaged_by_their_shares_and_photos_joined(folders: list[Path]) -> None:
    network, photos, parts = average(folders, (1, 3))
    first, second = (checkpoint.load(folder)[0].state_dict() for folder in folders)
    for name, weight in network.state_dict().items():
        expected = 0.25 * first[name] + 0.75 * second[name] if weight.is_floating_point() else first[name]
        torch.testing.assert_close(weight, expected.to(weight.dtype))
    assert photos == {1, 2, 3}
    assert [part["share"] for part in parts] == [0.25, 0.75]
    assert [part["sha256"] for part in parts] == [checkpoint.describe(folder)["sha256"] for folder in folders]


@pytest.mark.networks
@pytest.mark.parametrize("name", TINY_NETWORKS)
def test_mean_of_equal_networks_is_the_network(name: str, tmp_path: Path) -> None:
    folder = checkpoint.save(TINY_NETWORKS[name](), tmp_path)
    expected = checkpoint.load(folder)[0].state_dict()
    for key, weight in average([folder] * 3, (1, 1, 1))[0].state_dict().items():
        torch.testing.assert_close(weight, expected[key], rtol=0, atol=0, msg=key)


def test_checkpoints_without_a_mean_are_refused(folders: list[Path], tmp_path: Path) -> None:
    other = checkpoint.save(TINY_NETWORKS["ritm"](), tmp_path / "other")
    with pytest.raises(InputError, match=r"other is a checkpoint of network 'ritm_hrnet18s': expected"):
        average([folders[0], other], (1, 1))
    for given, shares, said in (
        (folders[:1], (1.0,), "expected at least two checkpoints, got 1"),
        (folders, (1.0,), "2 checkpoints and 1 shares: expected one share per checkpoint"),
        (folders, (1.0, 0.0), r"shares 1\.0, 0\.0: expected numbers above 0"),
        (folders, (1.0, float("nan")), r"shares 1\.0, nan: expected numbers above 0"),
    ):
        with pytest.raises(InputError, match=said):
            average(given, shares)


def test_the_job_writes_a_checkpoint(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean"
    assert job.main([*map(str, folders), "--shares", "1", "3", "--out", str(out)]) == 0
    description = checkpoint.load(out)[1]
    assert [part["share"] for part in description["info"]["mean_of"]] == [0.25, 0.75]
    assert description["info"]["licence"] == "MIT; Apache-2.0"
    assert description["info"]["refinement"]["flip"]
    assert trained_on(description) == {1, 2, 3}
    assert "0.750 of" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--out .* exists and is not an empty folder"):
        job.main([*map(str, folders), "--out", str(out)])
