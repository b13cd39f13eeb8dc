"""Run deploy/docker/Dockerfile without a container engine: stages are folders, in which commands run by chroot.

    sudo python -m tests.deploy.run_dockerfile cpu --into FOLDER [--build-arg TORCH_INDEX=...] [--mount /opt/wheels]

A bare Debian comes from `debootstrap`, and each stage starts as a copy of its base. At the end the command of CMD runs
as its user and must serve. Layers, ONBUILD, ADD and heredocs are not supported.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "docker" / "Dockerfile"
PASSED = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy")
"""Variables of the caller, besides those of pip, that commands inherit, as an engine passes those of a proxy."""


@dataclass(frozen=True)
class State:
    """What the instructions before have set."""

    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    cmd: tuple[str, ...] = ()


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction and its value, with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, value = line.split(maxsplit=1)
        yield name, value


def stages(text: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return the stages by name, each with its base and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for name, value in instructions(text):
        if name == "FROM":
            source, _, stage = value.partition(" AS ")
            found[stage] = source, (own := [])
        else:
            own.append((name, value))
    return found


class Builder:
    """Makes each stage once, in a folder."""

    def __init__(self, into: Path, build_args: dict[str, str], mounts: list[str]) -> None:
        self.into, self.build_args, self.mounts = into, build_args, mounts
        self.stages = stages(FILE.read_text())
        self.made: dict[str, State] = {}

    def make(self, stage: str) -> State:
        if stage in self.made:
            return self.made[stage]
        source, own = self.stages[stage]
        root = self.into / stage
        if source in self.stages:
            state = self.make(source)
            subprocess.run(["cp", "--archive", "--reflink=auto", self.into / source, root], check=True)
        else:
            state = State(env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
            (suite,) = re.findall(r"^debian:(\w+)-slim$", source)
            subprocess.run(["debootstrap", "--variant=minbase", suite, root], check=True, stdout=subprocess.DEVNULL)
            for name in ("resolv.conf", "hosts"):
                shutil.copy(f"/etc/{name}", root / "etc")
        for name, value in own:
            print(f"[{stage}] {name} {value}", flush=True)
            state = getattr(self, name.lower())(root, state, value)
        self.made[stage] = state
        return state

    def command(self, root: Path, state: State, words: list[str]) -> list[str]:
        """Return the command that runs `words` in a stage; its processes and mounts end with it."""
        mounts = "".join(f"mkdir -p {root}{m} && mount --bind --options ro {m} {root}{m} && " for m in self.mounts)
        passed = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or key in PASSED}
        env = [f"{key}={value}" for key, value in (passed | state.args | state.env).items()]
        inside = f"cd {state.folder} && exec {shlex.join(words)}"
        ids = f"--userspec={state.user}:{state.user}"
        chroot = shlex.join(["chroot", ids, str(root), "/usr/bin/env", "-i", *env, "/bin/sh", "-c", inside])
        script = f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && {mounts} exec {chroot}"
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script]

    def run(self, root: Path, state: State, value: str) -> State:
        subprocess.run(self.command(root, state, ["/bin/sh", "-c", value]), check=True)
        return state

    def arg(self, root: Path, state: State, value: str) -> State:
        name, _, default = value.partition("=")
        return replace(state, args=state.args | {name: self.build_args.get(name, default)})

    def env(self, root: Path, state: State, value: str) -> State:
        return replace(state, env=state.env | dict(word.split("=", 1) for word in shlex.split(value)))

    def workdir(self, root: Path, state: State, value: str) -> State:
        (root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return replace(state, folder=value)

    def user(self, root: Path, state: State, value: str) -> State:
        return replace(state, user=value)

    def expose(self, root: Path, state: State, value: str) -> State:
        return state

    def cmd(self, root: Path, state: State, value: str) -> State:
        return replace(state, cmd=tuple(json.loads(value)))

    def copy(self, root: Path, state: State, value: str) -> State:
        words = [word for word in shlex.split(value) if word != "--link"]
        origin = ROOT
        if words[0].startswith("--from="):
            origin = self.into / words[0].removeprefix("--from=")
            self.make(origin.name)
            words = words[1:]
        *sources, target = words
        place = root / (target if target.startswith("/") else f"{state.folder}/{target}").lstrip("/")
        for source in sources:
            if origin == ROOT:
                for path in context(ROOT) if source == "." else [ROOT / source]:
                    copy(path, place / path.name)
            else:
                subprocess.run(["cp", "--archive", origin / source.lstrip("/"), place], check=True)
        return state


def context(root: Path) -> list[Path]:
    """List the paths that Dockerfile.dockerignore includes: it excludes `*`, then adds `!NAME`."""
    lines = ignored()
    assert lines[0] == "*"
    return [root / line[1:] for line in lines if line.startswith("!")]


def ignored() -> list[str]:
    text = FILE.with_name("Dockerfile.dockerignore").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def copy(source: Path, target: Path) -> None:
    names = [line.removeprefix("**/") for line in ignored() if line.startswith("**/")]
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*names))
    else:
        shutil.copy(source, target)


def main(
    target: Annotated[str, tyro.conf.Positional],
    into: Path,
    build_arg: Annotated[list[str], tyro.conf.UseAppendAction] = [],  # noqa: B006
    mount: Annotated[list[str], tyro.conf.UseAppendAction] = [],  # noqa: B006
    port: int = 8765,
) -> None:
    """Make a target of the Dockerfile in a new folder and serve from it."""
    builder = Builder(into.absolute(), dict(word.split("=", 1) for word in build_arg), mount)
    into.mkdir(parents=True)
    state = builder.make(target)
    root = builder.into / target

    def inside(*words: str) -> str:
        return subprocess.check_output(builder.command(root, state, list(words)), text=True)

    (locked,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert inside("ray", "--version").split()[-1] == locked
    assert inside("id", "--user").strip() == state.user != "0"
    # The launcher and KubeRay start a login shell in another folder.
    inside("bash", "-lc", "cd / && python -m jobs.prepare --help")
    inside("rsync", "--version")
    inside("wget", "--version")
    refused = subprocess.run(builder.command(root, state, list(state.cmd)), capture_output=True, text=True)
    assert refused.returncode == 2, refused
    assert "--tokens" in refused.stderr, refused
    print(refused.stderr.strip())
    serving = subprocess.Popen(builder.command(root, state, [*state.cmd, "--insecure", "--port", str(port)]))
    try:
        print(wait_for(f"http://127.0.0.1:{port}/v1/health/ready", serving))
    finally:
        # `unshare` ignores the signal; its child is process 1, as in a container.
        (child,) = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert serving.wait(60) == 0
    size = subprocess.run(["du", "-sh", "--one-file-system", root], capture_output=True, text=True).stdout.split()[0]
    print(f"{target} runs: {size}")


def wait_for(url: str, process: subprocess.Popen, seconds: float = 180) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode()
        except OSError:
            time.sleep(1)
    raise SystemExit(f"{url} did not answer within {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
