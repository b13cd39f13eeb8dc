"""`python -m jobs.sweep SPACE [--checkpoint DIR] --reader NAME --root DIR`: find the settings with the fewest clicks.

OUT/best.json is a refinement that jobs.evaluate, jobs.predict, the server and Predictor accept (`--refine best.json`).
"""

import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from jobs import tracking
from jobs.cli import as_dict, checkpoint_source, data_root, parse, run_job, take_preset, writing
from jobs.config import SweepConfig
from jobs.datasets import dataset_name
from jobs.sweep_training import CHECKPOINT, TRAINED, train_config, train_setting
from models import checkpoint as checkpoints
from models.box import is_name
from models.errors import InputError
from models.files import make_folder, write_json
from models.parameters import Choice, Parameter
from models.refinement import Refinement, named, to_dict, why_not
from models.storage import is_address, without_key
from models.working import place_of, shown
from pipeline.data.hold_out import HoldOut
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader
from pipeline.data.sampling import rng_for
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects
from pipeline.evaluation.journal import Journal
from pipeline.pages.sweep_report import write_report
from pipeline.saved import Settings
from pipeline.text_table import aligned
from pipeline.tuning.contest import PLAYED, Contest, Entry
from pipeline.tuning.objective import objective as objective_of
from pipeline.tuning.outcome import forwards, standings
from pipeline.tuning.parameters import as_json
from pipeline.tuning.parameters import parse as parse_parameter
from pipeline.tuning.search import open_search
from pipeline.tuning.settings import REFINE, identity, refinement_of, training_of
from pipeline.tuning.settings import shown as settings_shown
from pipeline.tuning.spaces import Space, narrowed, spaces

BEST, JOURNAL = "best.json", "journal.jsonl"
ORDER = 0x5EE9  # draws the order of objects
BESIDE_TRAINING = 0.1
"""CPUs that an evaluator reserves in a sweep that trains."""
NO_SETTINGS = ("out", "scaling", "store", "memory_mb", "max_failures", "checkpoint", "experiment", "ray")
"""Fields of a sweep's config that may differ when it is resumed."""


def main(argv: Sequence[str]) -> int:
    """Parse the flags, sweep, and print the table and the locations of the results."""
    space_name, space, rest = take_preset(argv, spaces(), "sweep")
    config = check(parse(SweepConfig, rest, prog=f"sweep {space_name}"))
    space = narrowed(space, {name: parse_parameter(text) for name, text in config.set.items()})
    check_space(config, space)
    from jobs.ray_env import connected

    place = config.out or f"runs/sweep-{space_name}-{datetime.now():%Y%m%d-%H%M%S}"
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own table
    with writing("--out", place) as out, connected(config.ray):
        sweep(config, space_name, space, out, tracking.answering_uri(out))
    return 0


def check(config: SweepConfig) -> SweepConfig:
    """Check the config before anything is started, and make paths absolute; raises InputError."""
    checkpoint = checkpoint_source("--checkpoint", config.checkpoint)
    checkpoints.describe(checkpoint)
    if config.store and (is_name(checkpoint) or is_address(checkpoint)):
        why = "comes with Maskwright" if is_name(checkpoint) else "is at an address"
        raise InputError(
            f"--store changes the checkpoint, but {without_key(checkpoint)} {why} and cannot be changed: leave --store "
            "out, or copy the model to a folder and give that as --checkpoint"
        )
    if config.refine:
        named(config.refine)
    return dataclasses.replace(config, checkpoint=checkpoint, root=data_root("--root", config.root))


def check_space(config: SweepConfig, space: Space) -> None:
    """Raise InputError for unknown settings and invalid values of a space, before anything is started."""
    base = base_of(config)
    for name, parameter in space.items():
        for value in parameter.points():
            refinement_of(base, {name: value})
            if not name.startswith(REFINE):
                train_config(config, {name: value}, "")


def base_of(config: SweepConfig) -> Refinement:
    """Return the refinement that settings change."""
    return named(config.refine or checkpoints.describe(config.checkpoint)["info"].get("refinement"))


def open_data(config: SweepConfig) -> Reader:
    """Open the data set to evaluate on."""
    reader = open_reader(config.reader, config.root, config.split, config.options, config)
    return HoldOut(reader=reader, fraction=config.hold_out, side="held_out") if config.hold_out else reader


def protocol_of(config: SweepConfig) -> EvaluationConfig:
    """Return the protocol for the objective: sessions end when it is reached, costly measures only if it needs them."""
    objective, protocol = objective_of(config.objective), config.protocol
    target = protocol.target_iou if objective.quality is None else objective.quality
    qualities = (objective.quality,) if objective.quality is not None else (min(0.9, target),)
    return dataclasses.replace(
        protocol, target_iou=target, qualities=qualities, boundaries=objective.costly, at_clicks=(1,)
    )


def ordered(reader: Reader, protocol: EvaluationConfig, seed: int) -> list[Any]:
    """Return the objects to evaluate on, one per piece, in random order, so that each rung is a random sample."""
    pairs = [(item, (object_id,)) for item, ids in choose_objects(reader.items(), protocol) for object_id in ids]
    return [pairs[k] for k in rng_for(seed, ORDER).permutation(len(pairs)).tolist()]


def sweep(config: SweepConfig, space_name: str, space: Space, out: Path, uri: str) -> list[Any]:
    """Sweep inside a connection to Ray; write the results to `out` and return the standings."""
    from jobs.ray_env import fit_actors, refuse_nodes
    from pipeline.tuning.ray_tune import Sweep
    from pipeline.tuning.ray_tune import sweep as sweep_on_ray

    refuse_nodes("--scaling.nodes", config.scaling.nodes)
    make_folder(out)
    base, protocol, reader = base_of(config), protocol_of(config), open_data(config)
    pieces = ordered(reader, protocol, config.seed)
    trains = any(not name.startswith(REFINE) for name in space)
    race = dataclasses.replace(config.race, rungs=(1.0,)) if trains else config.race
    contest = Contest(
        objective=objective_of(config.objective),
        race=race,
        max_clicks=protocol.max_clicks,
        ends=race.sizes(len(pieces)),
        default=identity(base, {}),
        pareto=config.pareto,
        hidden=frozenset(name for name, parameter in space.items() if len(parameter.points()) == 1)
        if config.search == "grid"
        else frozenset(name for name, parameter in space.items() if len(set(map(repr, _ends(parameter)))) == 1),
    )
    traits = traits_of(config.checkpoint)
    actors, num_cpus = fit_actors(config.scaling.actors, config.scaling.num_cpus, len(pieces))
    if trains and not config.scaling.gpu:
        # Settings are trained one after another and need the CPUs, so evaluation must not reserve them.
        actors, num_cpus = 1, BESIDE_TRAINING
    settings = settings_of(config, space, base)
    journal = Journal(place_of(out / JOURNAL), settings)
    journal.check(lambda _, piece: [item.id for item, _ in pieces[piece : piece + 1]])
    parent = tracking.start_run(uri, f"sweep {space_name}", as_dict(config), experiment=config.experiment)
    tracking.log_dataset(uri, parent, dataset_name(config.reader, config.split, config.root), reader, "tuning")
    ended: list[str] = []
    most = config.trials or (math.prod(len(p.points()) for p in space.values()) if config.search == "grid" else 0)
    of = f"/{most}" if most else ""

    def on_end(entry: Entry, error: str) -> None:
        ended.append(entry.name)
        log_trial(uri, parent, contest, entry)
        state = f"{entry.status}{': ' + entry.reason if entry.reason else ''}"
        print(f"{len(ended):4d}{of}  {len(entry.rows()):4d} objects  {contest.title(entry)}  {state}", flush=True)

    def on_refused(name: str, values: Mapping[str, Any], why: str) -> None:
        print(f"refused     {settings_shown(values)}: {why}", flush=True)

    search = "optuna_pareto" if config.pareto and config.search == "optuna" else config.search
    print(f"{space_name}: {len(pieces)} objects, rungs at {contest.ends} -> {shown(out)}", flush=True)
    run = functools.partial(
        sweep_on_ray,
        Sweep(
            checkpoint=config.checkpoint,
            reader=reader,
            config=protocol,
            scaling=dataclasses.replace(config.scaling, actors=actors, num_cpus=num_cpus),
            base=base,
            contest=contest,
            search=open_search(search, space, config.trials, config.seed),
            pieces=pieces,
            name_of=functools.partial(identity, base),
            why_not=functools.partial(refusals, base, traits),
            settings=settings,
            out=place_of(out),
            generation=config.generation,
            memory_bytes=config.memory_mb * 2**20,
            prepare=functools.partial(train_setting, config, place_of(out), uri) if trains else None,
            max_failures=config.max_failures,
        ),
        on_end,
        on_refused,
    )
    try:
        found = conclude(config, run(), base, out, space_name)
    except BaseException:
        tracking.end_run(uri, parent, "FAILED")
        raise
    tracking.log_files(uri, parent, out / "report.html", "report")
    tracking.log_files(uri, parent, out / BEST, "best")
    tracking.log_metrics(uri, parent, 0, {"best": found[0].value, "settings": float(len(found))})
    tracking.end_run(uri, parent)
    print(f"MLflow      run {parent} at {uri}")
    return found


def settings_of(config: SweepConfig, space: Space, base: Refinement) -> Settings:
    """Return every setting that determines the results of a sweep."""
    more = {
        "space": {name: as_json(parameter) for name, parameter in space.items()},
        "base": base,
        "weights": checkpoints.describe(config.checkpoint)["sha256"],
        "precision": config.scaling.precision,
        "backend": config.scaling.backend,
    }
    return Settings(config, without=NO_SETTINGS, more=more, added={"backend": "torch"})


def _ends(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.values if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def traits_of(checkpoint: str) -> Any:
    """Return the traits of the checkpoint's network, without reading its weights."""
    import torch

    with torch.device("meta"):
        return checkpoints.network_of(checkpoints.describe(checkpoint)).traits


def refusals(base: Refinement, traits: Any, values: Mapping[str, Any]) -> list[str]:
    """Return why a network does not support a setting; empty if it does."""
    try:
        return why_not(refinement_of(base, values), traits)
    except InputError as error:
        return [str(error)]


def log_trial(uri: str, parent: str, contest: Contest, entry: Entry) -> None:
    """Log a setting to MLflow as a child of the sweep's run."""
    run_id = tracking.start_run(uri, settings_shown(entry.values)[:100], entry.values, parent=parent)
    rows = entry.rows()
    if rows:
        asked, computed = entry.forwards
        numbers = {
            contest.objective.label: contest.score(entry),
            "seconds_per_click": entry.seconds_per_click,
            "objects": float(len(rows)),
            "forwards_asked": float(asked),
            "forwards_computed": float(computed),
            "mean_last_iou": float(np.mean([row.ious[-1] for row in rows])),
        }
        tracking.log_metrics(uri, run_id, 0, numbers)
    tracking.end_run(uri, run_id, "FAILED" if entry.status == "failed" else "FINISHED")


def conclude(config: SweepConfig, contest: Contest, base: Refinement, out: Path, space_name: str) -> list[Any]:
    """Write the report, the best setting and all results, and print the table; raises InputError if none finished."""
    found = standings(contest, config.seed)
    if not found or found[0].entry.status != PLAYED:
        raise InputError(
            "no setting was evaluated on all objects: "
            + "; ".join(f"{settings_shown(e.values)}: {e.reason}" for e in list(contest.entries.values())[:3])
        )
    best = found[0]
    refinement = refinement_of(base, best.entry.values)
    write_json(out / BEST, to_dict(refinement))
    asked, computed = forwards(contest)
    write_json(
        out / "sweep.json",
        {
            "space": space_name,
            "objective": config.objective,
            "forwards": {"asked": asked, "computed": computed},
            "settings": [
                {
                    "name": s.entry.name, "values": s.entry.values, "status": s.entry.status,
                    "reason": s.entry.reason, "objects": s.objects, "value": s.value, "estimate": s.estimate,
                    "seconds_per_click": s.seconds_per_click, "difference": s.difference, "low": s.low,
                    "high": s.high, "forwards": s.entry.forwards,
                }
                for s in found
            ],
            "failed": [
                {"values": e.values, "reason": e.reason} for e in contest.entries.values() if e.status == "failed"
            ],
        },
    )  # fmt: skip
    sentence = write_report(
        out / "report.html",
        contest,
        title=f"Sweep {space_name}",
        subtitle=f"{best.objects} objects, at most {contest.max_clicks} clicks, checkpoint {config.checkpoint}",
        seed=config.seed,
    )
    label = contest.objective.label
    lines = [[label, "to default", "95 %", "s/click", "objects", "setting"]]
    for s in found[:12]:
        interval = "" if s.low is None else f"[{s.low:+.3f}, {s.high:+.3f}]"
        difference = "" if s.difference is None else f"{s.difference:+.3f}"
        estimate = f"{s.estimate:.3f}{' ' if s.entry.status == PLAYED else '~'}"
        price = f"{s.seconds_per_click:.3f}"
        lines.append([estimate, difference, interval, price, str(s.objects), contest.title(s.entry)])
    print(f"\n{aligned(lines, '>><>><')}")
    if config.pareto:
        print("\nbest at each time per click, fastest first:")
        for entry in contest.pareto_front():
            score = abs(contest.score(entry))
            print(f"  {entry.seconds_per_click:8.3f} s/click  {label} {score:.3f}  {contest.title(entry)}")
    print(f"\n{sentence}\n")
    known = {item for s in found for result in s.entry.results.values() for item in result.trained_on}
    if known:
        print(
            f"warning: the checkpoint was trained on {len(known)} of these images "
            f"({', '.join(sorted(known)[:5])}{', ...' if len(known) > 5 else ''}): the best setting on them may not be "
            "the best on others\n"
        )
    if config.store:
        if best.difference is not None and best.better(contest.objective):
            checkpoints.recommend(config.checkpoint, to_dict(refinement))
            print(f"{config.checkpoint} now recommends the best setting")
        else:
            print(f"{config.checkpoint} is unchanged: no setting is significantly better")
    if training_of(best.entry.values):
        print(f"trained     {shown(out / TRAINED / best.entry.name / CHECKPOINT)}")
    print(f"best        {shown(out / BEST)}\nreport      {shown(out / 'report.html')}")
    print(f"forwards    {computed} computed of {asked} requested")
    return found


if __name__ == "__main__":
    run_job(main)
