"""Golden configs that lack a field take its default; a changed or unknown field is named."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs import augment, evaluate, prepare, sweep, train
from jobs.cli import from_dict, parse
from jobs.config import EvaluateConfig, SweepConfig, TrainConfig, for_reader_of
from jobs.presets import PRESETS
from models import checkpoint as checkpoints
from models.errors import InputError
from models.refinement import named
from models.storage import Storage
from pipeline.data.prepared.parts import finished
from pipeline.evaluation.journal import Journal
from pipeline.evaluation.ray_evaluate import piece_size
from pipeline.saved import Settings, differences
from pipeline.tuning.parameters import parse as parse_parameter
from pipeline.tuning.settings import identity
from pipeline.tuning.spaces import SPACES, narrowed
from tests.golden import commands

Saved = tuple[dict[str, Any], Settings]


def of_a_run(golden: Path) -> Saved:
    saved = json.loads((golden / "run" / "config.json").read_text())["config"]
    return saved, train.settings_of(from_dict(TrainConfig, saved))


def of_an_evaluation(golden: Path) -> Saved:
    config = evaluate.check(parse(EvaluateConfig, commands.evaluate(golden / "checkpoints" / "name"), prog="evaluate"))
    return head(golden / "evaluation"), evaluate.settings_of(config, piece_size(config.scaling))


def of_a_sweep(golden: Path) -> Saved:
    argv = commands.sweep(golden / "checkpoints" / "name")[1:]
    config = sweep.check(parse(SweepConfig, argv, prog="sweep"))
    space = narrowed(SPACES["cfr"](), {name: parse_parameter(text) for name, text in config.set.items()})
    return head(golden / "sweep"), sweep.settings_of(config, space, sweep.base_of(config))


def of_a_preparation(golden: Path) -> Saved:
    saved = json.loads((golden / "preparing" / "settings.json").read_text())["settings"]
    return saved, prepare.settings_of(parsed(prepare.PrepareConfig, commands.prepare()), None)


def of_a_preparation_of_triplets(golden: Path) -> Saved:
    saved = json.loads((golden / "prepared_mois" / "manifest.json").read_text())["settings"]
    argv = ["--reader", "coco", "--stage", "mois"]
    return saved, prepare.settings_of(parsed(prepare.PrepareConfig, argv), f"{commands.ROOT}/source")


def of_an_epoch(golden: Path) -> Saved:
    saved = json.loads((golden / "epoch" / "manifest.json").read_text())["settings"]
    preset, *argv = commands.augment()
    default = augment.AugmentJob(data=for_reader_of(argv, PRESETS[preset]().data))
    return saved, augment.settings_of(parse(augment.AugmentJob, argv, prog="augment", default=default))


def parsed(kind: Any, argv: Sequence[str]) -> Any:
    return parse(kind, [*argv, "--out", "x"], prog="prepare")


def head(folder: Path) -> dict[str, Any]:
    with (folder / "journal.jsonl").open() as file:
        return json.loads(next(file))["settings"]


ALL = [of_a_run, of_an_evaluation, of_a_sweep, of_a_preparation, of_a_preparation_of_triplets, of_an_epoch]


def leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from leaves(entry, (*at, name))
    else:
        yield at


def changed(saved: dict[str, Any], at: tuple[str, ...], change: Callable[[dict[str, Any], str], Any]) -> dict[str, Any]:
    copy = json.loads(json.dumps(saved))
    place = copy
    for name in at[:-1]:
        place = place[name]
    change(place, at[-1])
    return copy


@pytest.mark.networks
@pytest.mark.parametrize("of", ALL)
def test_fields_with_default_values_may_be_missing(golden: Path, of: Callable[[Path], Saved]) -> None:
    saved, settings = of(golden)
    assert differences(saved, settings) == ""
    missing = {at: differences(changed(saved, at, lambda place, name: place.pop(name)), settings)
               for at in leaves(saved)}  # fmt: skip
    for at, said in missing.items():
        assert said == "" or said.startswith(f"{'.'.join(at)}: given "), said
    # Those alone are missed that had other values than their defaults, or that have none.
    assert sum(said == "" for said in missing.values()) >= 3


@pytest.mark.parametrize("of", ALL)
def test_a_changed_or_unknown_field_is_named(golden: Path, of: Callable[[Path], Saved]) -> None:
    saved, settings = of(golden)
    for at in leaves(saved):
        if at[0] in settings.without:
            continue
        said = differences(changed(saved, at, lambda place, name: place.update({name: "other"})), settings)
        assert said.startswith(f"{'.'.join(at)}: given "), said
        assert said.endswith(', saved "other"')
    assert differences(saved | {"novelty": 1}, settings) == "novelty: saved 1, unknown to this version"


@pytest.mark.parametrize(("folder", "of"), [("evaluation", of_an_evaluation), ("sweep", of_a_sweep)])
def test_journal_without_a_newer_field_resumes(
    golden: Path, tmp_path: Path, folder: str, of: Callable[[Path], Saved]
) -> None:
    saved, settings = of(golden)
    _, *lines = (golden / folder / "journal.jsonl").read_text().splitlines()
    del saved["hold_out"], saved["protocol"]["boundaries"], saved["protocol"]["realistic"]["jitter"]
    of_refinement = saved["base"] if "base" in saved else saved["refinements"]["cfr_2"]["cascade"]
    del of_refinement["cascade" if "base" in saved else "pixels"]
    path = tmp_path / "journal.jsonl"
    path.write_text("\n".join([json.dumps({"settings": saved}), *lines]) + "\n")
    assert len(Journal(path, settings).done) == len(lines)
    saved["protocol"]["max_clicks"] = 19
    path.write_text("\n".join([json.dumps({"settings": saved}), *lines]) + "\n")
    with pytest.raises(InputError, match=r"other settings \(protocol.max_clicks: given \d, saved 19\)"):
        Journal(path, settings)


@pytest.mark.parametrize(("folder", "of"), [("preparing", of_a_preparation), ("epoch", of_an_epoch)])
def test_prepared_folder_without_a_newer_field_resumes(
    golden: Path, tmp_path: Path, folder: str, of: Callable[[Path], Saved]
) -> None:
    _, settings = of(golden)
    shutil.copytree(golden / folder, tmp_path / folder)
    storage, path = Storage(str(tmp_path / folder)), tmp_path / folder / "settings.json"
    if folder == "epoch":
        (tmp_path / folder / "settings.json").unlink()
        path = tmp_path / folder / "manifest.json"
    known = json.loads(path.read_text())
    if folder == "epoch":
        del known["settings"]["data"]["clicks"]["walk"], known["settings"]["data"]["min_piece_area"]
    else:
        del known["settings"]["split"], known["settings"]["stage"]
    path.write_text(json.dumps(known))
    assert finished(storage, settings) == (folder == "epoch")
    known["settings"]["images_per_group" if folder == "preparing" else "epoch"] = 5
    path.write_text(json.dumps(known))
    with pytest.raises(InputError, match=r"other settings \(\w+: given \d+, saved 5\)"):
        finished(storage, settings)


def test_config_and_refinement_of_a_checkpoint_may_lack_fields(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "checkpoints" / "dict", tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    known = json.loads(path.read_text())
    # The registered network has another value than the class: networks of before were as the class says.
    assert known["config"].pop("mimetic_start") is True
    refinement = known["info"]["refinement"]
    del known["config"]["patch"], refinement["progressive_merge"], refinement["cascade"]["pixels"], refinement["split"]
    path.write_text(json.dumps(known))
    network, description = checkpoints.load(tmp_path / "c")
    assert network.config.mimetic_start is False
    assert named(description["info"]["refinement"]) == named(
        json.loads((golden / "checkpoints.json").read_text())["answers"]["dict"]["refinement"]
    )
    for change, said in (
        (lambda k: k["config"].update(novelty=1), "novelty"),
        (lambda k: k["info"]["refinement"]["cascade"].update(novelty=1), "novelty"),
    ):
        copy = json.loads(json.dumps(known))
        change(copy)
        path.write_text(json.dumps(copy))
        with pytest.raises(InputError, match=said):
            named(checkpoints.load(tmp_path / "c")[1]["info"]["refinement"])


def test_record_of_a_shard_may_lack_fields_with_defaults(golden: Path, tmp_path: Path) -> None:
    from pipeline.data.prepared.manifest import Shard

    record = json.loads((golden / "preparing" / "records" / "part-000000.json").read_text())
    whole = Shard.of(record)
    del record["counts"]
    assert Shard.of(record) == whole


def test_new_field_of_a_refinement_keeps_names_of_settings(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's journal uses these names to find finished pieces."""
    import dataclasses

    from models import refinement
    from models.refinement import names
    from pipeline.tuning import settings

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LaterCascade(refinement.Cascade):
        novelty: int = 3

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later(refinement.Refinement):
        novelty: bool = False

    monkeypatch.setitem(refinement.PARTS, "cascade", LaterCascade)
    monkeypatch.setattr(names, "Refinement", Later)
    monkeypatch.setattr(settings, "Refinement", Later)
    played = json.loads((golden / "sweep_final" / "sweep.json").read_text())["settings"]
    assert [identity(Later(), entry["values"]) for entry in played] == [entry["name"] for entry in played]
    values = {"refine.cascade.steps": 2}
    assert identity(Later(), {**values, "refine.novelty": True}) != identity(Later(), values)
    assert identity(Later(), {**values, "refine.cascade.novelty": 4}) != identity(Later(), values)
