"""Whether MLflow, Label Studio, CVAT and our server answer, and which ports here answer to other machines."""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from jobs import tracking
from jobs.doctor.finding import Finding
from models.errors import InputError

TRIED_STUDIO = "1.23"
WAIT_S = 5.0
DATABASE = "sqlite:///"
RAY_PROGRAMS = ("gcs_server", "raylet", "dashboard", "ray-")
HOSTS = "see that it runs, and that it was started with --allowed-hosts of this name"
UNBLOCK = "start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (docs/HTTP.md)"


def ask(url: str, path: str, **headers: str) -> httpx.Response:
    """GET a path of a service; raises InputError where nothing answers."""
    try:
        return httpx.get(url.rstrip("/") + path, headers=headers, timeout=WAIT_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        advice = "see that it runs and that this machine reaches it"
        raise InputError(f"{url} does not answer ({error or type(error).__name__}): {advice}") from error


def described(url: str, path: str) -> dict[str, Any]:
    """What a service says of itself; raises InputError where that is no JSON object."""
    answer = ask(url, path)
    try:
        found = answer.raise_for_status().json()
    except (httpx.HTTPStatusError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{url}{path} does not say what it is ({answer.status_code}): see that this is the address")
    return found


def mlflow(uri: str, on_cluster: bool) -> Iterator[Finding]:
    """Ask for the experiments of a tracking server or database; an empty `uri`: none is set."""
    if not uri or uri.startswith(DATABASE):
        said = f"{uri or 'MLFLOW_TRACKING_URI is not set, so it is mlflow.db'}: a file on one machine"
        do = "set MLFLOW_TRACKING_URI to a server that all nodes reach (http://HOST:5000 of `mlflow server`)"
        if on_cluster:
            yield Finding("MLflow", "warning", said, do)
            return
        if not Path(uri.removeprefix(DATABASE) or "mlflow.db").is_file():
            yield Finding("MLflow", "ok", f"{said}, which the first job makes")
            return
    elif urlsplit(uri).scheme in ("http", "https"):
        answer = ask(uri, "/health")
        if answer.status_code != 200:
            yield Finding("MLflow", "failure", f"{uri}/health: {answer.status_code} {answer.reason_phrase}", HOSTS)
            return
    experiments = tracking.client(uri or DATABASE + "mlflow.db").search_experiments(max_results=1000)
    yield Finding("MLflow", "ok", f"{uri or 'mlflow.db'} has {len(experiments)} experiments")


def server(url: str) -> Iterator[Finding]:
    """Ask a Maskwright server whether it lives and its models answer."""
    for path in ("/v1/health/live", "/v1/health/ready"):
        answer = ask(url, path)
        if answer.status_code != 200:
            said = f"{url}{path}: {answer.status_code} {answer.text[:200]}"
            yield Finding("server", "failure", said, "look at its log (docs/OPERATE.md)")
            return
    yield Finding("server", "ok", f"{url} is ready")


def label_studio(url: str, server_url: str) -> Iterator[Finding]:
    """Ask Label Studio for its version, whether it takes our token, and whether it may call `server_url`."""
    release = described(url, "/api/version").get("release", "?")
    yield Finding("Label Studio", "ok", f"{url} is release {release}; {TRIED_STUDIO} is the one that was tried")
    if token := os.environ.get("LABEL_STUDIO_API_KEY"):
        status = ask(url, "/api/current-user/whoami", Authorization=f"Token {token}").status_code
        if status == 200:
            yield Finding("Label Studio", "ok", "takes LABEL_STUDIO_API_KEY")
        else:
            do = "give the legacy token of a user; Label Studio takes it with --enable-legacy-api-token"
            yield Finding("Label Studio", "failure", f"refuses LABEL_STUDIO_API_KEY ({status})", do)
    if server_url and (private := private_address(server_url)):
        said = f"{server_url} is {private}, a private address, which Label Studio calls only if it was started so"
        yield Finding("Label Studio", "warning", said, UNBLOCK)


def cvat(url: str, server_url: str) -> Iterator[Finding]:
    """Ask CVAT for its version; it calls our server from an address that `--cvat-clients` must name."""
    yield Finding("CVAT", "ok", f"{url} is version {described(url, '/api/server/about').get('version', '?')}")
    if server_url and urlsplit(server_url).path.strip("/"):
        said = f"{server_url} has a path, and CVAT knows host and port alone"
        yield Finding("CVAT", "failure", said, "let the three addresses of CVAT through at the root (docs/HTTP.md)")


def private_address(url: str) -> str:
    """The address of a URL's host where it is none of the public internet; empty: it is public."""
    host = urlsplit(url).hostname or ""
    for *_, address in socket.getaddrinfo(host, None):
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            return str(address[0])
    return ""


def ports(has_token: bool) -> Iterator[Finding]:
    """List programs of Ray, MLflow, Redis and ours on this machine that other machines can connect to."""
    found: dict[str, set[int]] = {}
    for each in psutil.net_connections("tcp"):
        if each.status != psutil.CONN_LISTEN or not each.laddr or ipaddress.ip_address(each.laddr.ip).is_loopback:
            continue
        if each.pid and (program := program_of(each.pid)):
            found.setdefault(program, set()).add(each.laddr.port)
    for program, numbers in sorted(found.items()):
        said = f"{program} answers other machines at {', '.join(map(str, sorted(numbers)[:8]))}"
        if program == "Ray" and not has_token:
            do = "start it with RAY_AUTH_MODE=token, or keep it on this machine: anyone who connects can run code here"
            yield Finding("ports", "warning", said, do)
        elif program == "Redis":
            do = "let no other machine reach it, or give it a password (requirepass)"
            yield Finding("ports", "warning", said, do)
        else:
            yield Finding("ports", "ok", said)
    if not found:
        yield Finding("ports", "ok", "no program of Ray, MLflow, Redis or ours here answers other machines")


def program_of(pid: int) -> str:
    """Which of the programs that we know a process is; empty: another one."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return ""
    command = " ".join(words)
    if any(name in command for name in RAY_PROGRAMS):
        return "Ray"
    if "redis-server" in command:
        return "Redis"
    if re.search(r"\bmlflow\b", command):
        return "MLflow"
    return "Maskwright" if "serve" in words else ""
