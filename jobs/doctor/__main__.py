"""`python -m jobs.doctor`: look at packages, Ray and its nodes, storage, MLflow, ports, Label Studio and CVAT."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.cli import location, parse, run_job
from jobs.doctor import services
from jobs.doctor.finding import Finding, look
from jobs.doctor.machine import machine
from jobs.doctor.nodes import cluster, has_token, is_joined, on_nodes
from jobs.doctor.storage import storage
from models.errors import InputError
from models.records import Record


@dataclass(frozen=True)
class DoctorConfig(Record):
    """Look at what jobs and the server need; each finding says what to do. Exit status 1: something failed."""

    ray: str = ""
    """Address of a Ray; by default that of RAY_ADDRESS, or of `ray start` here. All its nodes are looked at."""
    storage: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Folder, or s3://BUCKET/FOLDER, that every node is to write, read, list and delete in (repeatable)."""
    tracking_uri: str = ""
    """MLflow; by default MLFLOW_TRACKING_URI."""
    server: str = ""
    """Address of a Maskwright server, as Label Studio and CVAT would call it."""
    label_studio: str = ""
    """Address of a Label Studio; its token is taken from LABEL_STUDIO_API_KEY."""
    cvat: str = ""
    """Address of a CVAT."""
    seconds: float = 30.0
    """Time limit of each look."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the findings as JSON, one object a line."""


def examine(config: DoctorConfig, stack: ExitStack) -> Iterator[Finding]:
    """Give the findings as they come."""
    yield from look("Ray", lambda: cluster(stack, config.ray), 2 * config.seconds)
    places = [location("--storage", place) for place in config.storage]
    if on_cluster := is_joined():
        yield from look("nodes", lambda: on_nodes(places, config.seconds), (3 + len(places)) * config.seconds)
    else:
        yield from look("machine", machine, config.seconds)
        for place in places:
            yield from look(f"storage {place}", lambda place=place: storage(place), config.seconds)
    uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    yield from look("MLflow", lambda: services.mlflow(uri, on_cluster), config.seconds)
    yield from look("ports", lambda: services.ports(has_token()), config.seconds)
    if config.server:
        yield from look("server", lambda: services.server(config.server), config.seconds)
    if config.label_studio:
        seen = look("Label Studio", lambda: services.label_studio(config.label_studio, config.server), config.seconds)
        yield from seen
    if config.cvat:
        yield from look("CVAT", lambda: services.cvat(config.cvat, config.server), config.seconds)


def main(argv: Sequence[str]) -> int:
    """Print each finding as it comes; 1 if one is a failure."""
    config = parse(DoctorConfig, argv, prog="doctor")
    if not config.seconds > 0:
        raise InputError(f"--seconds {config.seconds:g}: expected more than 0")
    levels, out = [], sys.stdout
    with ExitStack() as stack, redirect_stdout(sys.stderr):  # what Ray and MLflow say is no finding
        for each in examine(config, stack):
            levels.append(each.level)
            print(as_json(each) if config.json else as_text(each), file=out, flush=True)
    if not config.json:
        print(f"{levels.count('failure')} failures, {levels.count('warning')} warnings", flush=True)
    return 1 if "failure" in levels else 0


def as_json(finding: Finding) -> str:
    """A finding for programs."""
    return json.dumps(dataclasses.asdict(finding))


def as_text(finding: Finding) -> str:
    """A finding for people: one line, and one for what to do."""
    where = f" on {finding.node}" if finding.node else ""
    line = f"{finding.level:<8} {finding.about}{where}: {finding.said}"
    return f"{line}\n         -> {finding.do}" if finding.do else line


if __name__ == "__main__":
    run_job(main)
