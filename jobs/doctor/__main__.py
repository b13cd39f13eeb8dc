"""`python -m jobs.doctor`: check packages, Ray and its nodes, storage, MLflow, ports, Label Studio and CVAT."""

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
    """Check what jobs and the server need, and say what to do about each problem. Exit status 1: a check failed."""

    ray: str = ""
    """Address of a Ray cluster, whose nodes are all checked. By default: RAY_ADDRESS, else the cluster that `ray start`
    recorded on this machine."""
    storage: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Folder or address (s3://BUCKET/FOLDER) to check for writing, reading, listing and deleting on every node."""
    tracking_uri: str = ""
    """Tracking URI of MLflow; default: MLFLOW_TRACKING_URI."""
    server: str = ""
    """Address of a Maskwright server, as Label Studio and CVAT would call it; default: not checked."""
    label_studio: str = ""
    """Address of a Label Studio, with its token in LABEL_STUDIO_API_KEY; default: not checked."""
    cvat: str = ""
    """Address of a CVAT; default: not checked."""
    seconds: float = 30.0
    """Time limit of each check in seconds."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the findings as JSON, one object per line."""


def examine(config: DoctorConfig, stack: ExitStack) -> Iterator[Finding]:
    """Run the checks and yield their findings one by one."""
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
    """Print each finding as it comes; return 1 if one is a failure."""
    config = parse(DoctorConfig, argv, prog="doctor")
    if not config.seconds > 0:
        raise InputError(f"--seconds {config.seconds:g}: expected more than 0")
    levels, out = [], sys.stdout
    with ExitStack() as stack, redirect_stdout(sys.stderr):  # for output of Ray and MLflow
        for each in examine(config, stack):
            levels.append(each.level)
            print(as_json(each) if config.json else as_text(each), file=out, flush=True)
    if not config.json:
        print(f"{levels.count('failure')} failures, {levels.count('warning')} warnings", flush=True)
    return 1 if "failure" in levels else 0


def as_json(finding: Finding) -> str:
    """Format a finding for programs."""
    return json.dumps(dataclasses.asdict(finding))


def as_text(finding: Finding) -> str:
    """Format a finding for people: one line, and a second one for what to do."""
    where = f" on {finding.node}" if finding.node else ""
    line = f"{finding.level:<8} {finding.about}{where}: {finding.said}"
    return f"{line}\n         -> {finding.do}" if finding.do else line


if __name__ == "__main__":
    run_job(main)
