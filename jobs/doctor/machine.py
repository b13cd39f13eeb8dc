"""Checks of one machine: packages, shared memory, disk, memory and GPUs. They run on each node of a cluster."""

import platform
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from jobs.doctor.finding import Finding

ROOT = Path(__file__).parents[2]
SHOWN = ("ray", "torch", "timm")
GIB = 2**30
FULL, LITTLE = 0.95, 10 * GIB
"""Usage of a disk above which Ray stops writing to it, and free bytes below which the doctor warns."""
SHM = Path("/dev/shm")


def machine(store_bytes: int = 0, temp: str = "", num_gpus: int = 0) -> Iterator[Finding]:
    """Check this machine; `store_bytes`, `temp`, `num_gpus`: size of the object store, folder and GPUs of Ray here."""
    yield from packages()
    if store_bytes:
        yield shared_memory(store_bytes, shutil.disk_usage(SHM).total if SHM.exists() else 0)
    folder = temp or tempfile.gettempdir()
    used = shutil.disk_usage(folder)
    yield disk(folder, used.total, used.free)
    yield memory(psutil.virtual_memory().percent)
    yield from gpus(num_gpus)


def packages() -> Iterator[Finding]:
    """Compare the installed packages with the ranges of pyproject.toml and the versions of constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installed = {name: found for name in names(project, ("serve", "train")) if (found := installed_version(name))}
    wrong = [
        f"{each.name} {installed[each.name]} ({each.specifier})"
        for each in map(Requirement, [*project["dependencies"], *extras["serve"], *extras["train"]])
        if each.name in installed and not each.specifier.contains(installed[each.name], prereleases=True)
    ]
    python = platform.python_version()
    if python not in Requirement(f"python{project['requires-python']}").specifier:
        wrong.append(f"Python {python} ({project['requires-python']})")
    missing = [name for name in names(project, ()) if name not in installed]
    for extra in ("serve", "train"):
        of_it = [Requirement(line).name for line in extras[extra]]
        absent = [name for name in of_it if name not in installed]
        if len(absent) < len(of_it):  # an extra of which nothing is installed is not wanted here
            missing += [f"{name} (for {extra})" for name in absent]
    install = 'pip install --constraint constraints.txt ".[serve,train]"'
    if wrong or missing:
        said = [f"outside the supported range: {', '.join(wrong)}"] if wrong else []
        said += [f"not installed: {', '.join(missing)}"] if missing else []
        yield Finding("packages", "failure", "; ".join(said), install)
        return
    pins = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.M))
    other = [
        f"{name} {found} ({pins[name]})"
        for name, found in installed.items()
        if name in pins and found.partition("+")[0] != pins[name]
    ]
    said = f"Python {python}, " + ", ".join(f"{name} {installed[name]}" for name in SHOWN)
    if other:
        yield Finding("packages", "warning", f"{said}; differ from constraints.txt: {', '.join(other)}", install)
    else:
        yield Finding("packages", "ok", f"{said}, all versions as in constraints.txt")


def names(project: Mapping[str, Any], extras: tuple[str, ...]) -> list[str]:
    """Return the names of the packages that the project and the given extras require."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return list(dict.fromkeys(Requirement(line).name for line in lines))


def installed_version(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def shared_memory(store_bytes: int, shm_bytes: int) -> Finding:
    """Check whether Ray's object store fits into shared memory."""
    said = f"/dev/shm has {shm_bytes / GIB:.1f} GiB, Ray's object store {store_bytes / GIB:.1f} GiB"
    if shm_bytes >= store_bytes:
        return Finding("shared memory", "ok", said)
    do = "use docker run --shm-size, or in Kubernetes an emptyDir with medium: Memory at /dev/shm; a disk is slow"
    return Finding("shared memory", "warning", said, do)


def disk(folder: str, total: int, free: int) -> Finding:
    """Check the disk that Ray spills to and jobs use for temporary files."""
    said = f"{folder} has {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    do = "free some space, or use a larger disk (ray start --temp-dir, TMPDIR)"
    if free < (1 - FULL) * total:
        return Finding("disk", "failure", f"{said}: Ray does not write to a disk below {1 - FULL:.0%}", do)
    return Finding("disk", "warning", said, do) if free < LITTLE else Finding("disk", "ok", said)


def memory(percent: float) -> Finding:
    """Check the memory in use, in percent: near 100 Ray kills workers."""
    total = psutil.virtual_memory().total / GIB
    said = f"{percent:.0f} % of {total:.1f} GiB in use"
    if percent < 100 * FULL:
        return Finding("memory", "ok", said)
    return Finding("memory", "warning", f"{said}: Ray kills workers", "stop other programs, or use fewer actors")


def gpus(expected: int = 0) -> Iterator[Finding]:
    """Compute on each GPU, and run NCCL with one worker; `expected`: the number of GPUs that Ray reports."""
    import torch
    import torch.cuda.nccl

    if not torch.cuda.is_available():
        if expected:
            built = f"torch {torch.__version__}"
            do = "check `nvidia-smi`, and use the image or the torch that is built for CUDA (deploy/docker)"
            yield Finding("GPU", "failure", f"Ray reports {expected}, but {built} finds none", do)
        return
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        torch.ones(64, 64, device=device).matmul(torch.ones(64, 64, device=device)).sum().item()
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        yield Finding("GPU", "ok", f"{name}: {free / GIB:.1f} of {total / GIB:.1f} GiB free, CUDA {torch.version.cuda}")
    reduce_alone("nccl", torch.device("cuda", 0))
    yield Finding("NCCL", "ok", f"version {'.'.join(map(str, torch.cuda.nccl.version()))} works")


def reduce_alone(backend: str, device: Any) -> None:
    """Sum a tensor over one worker; raises if the backend's library cannot start."""
    import torch
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            value = torch.ones(1, device=device)
            dist.all_reduce(value)
            assert value.item() == 1.0
        finally:
            dist.destroy_process_group()
