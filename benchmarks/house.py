"""Size of a package, dependencies between its files, and the call stack of a click.

    python -m benchmarks.house [--tree ANOTHER_CHECKOUT] [--package serve]

Code lines exclude blank lines, comments and docstrings. An arrow is an import between two files of the package, or
between two of its rooms (folders). The frames of a click are the calls of serve and models on the stack, in the event
loop and in the thread that runs the network, when a click sent over HTTP to a server without Ray reaches the network.
The places of an option are its declarations and the lines that copy it between records under the same name.
"""

import argparse
import ast
import json
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

CLICK = """
import concurrent.futures, io, json, sys, traceback
from pathlib import Path
import numpy as np, torch
from fastapi.testclient import TestClient
from PIL import Image
from models.networks import create
from models.predictor import Predictor
try:
    from serve.engine.engine import Engine
    from serve.http.app import create_app
except ImportError:
    from serve.api import create_app
    from serve.engine import Engine
HERE = Path.cwd()
found, clicking = {}, False
def ours():
    names = [Path(frame.filename) for frame in traceback.extract_stack()]
    near = [name.relative_to(HERE) for name in names if name.is_relative_to(HERE)]
    return [str(name) for name in near if name.parts[0] in ("serve", "models")]
def reached(*_):
    if clicking:
        found.setdefault("thread", ours())
submit = concurrent.futures.ThreadPoolExecutor.submit
def submitted(self, *args, **more):
    if clicking and any("waiting" in name for name in ours()):
        found.setdefault("loop", ours())
    return submit(self, *args, **more)
concurrent.futures.ThreadPoolExecutor.submit = submitted
network = create("simpleclick_vit_xtiny", input_hw=(64, 64), depth=4)
network.register_forward_pre_hook(reached)
client = TestClient(create_app(Engine(Predictor(network, "zoom_in"))), "http://localhost")
stream = io.BytesIO()
Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(stream, "PNG")
png = {"content": stream.getvalue(), "headers": {"Content-Type": "image/png"}}
session = client.post("/v1/sessions", **png).json()["session_id"]
clicking = True
assert client.post(f"/v1/sessions/{session}/clicks", json={"x": 30, "y": 20}).status_code == 200
print(json.dumps(found))
"""


def code_lines(text: str) -> int:
    """Count the lines of a file that are neither blank nor a comment nor part of a docstring."""
    tree, lines = ast.parse(text), text.splitlines()
    silent = {number for number, line in enumerate(lines, 1) if not line.strip() or line.strip().startswith("#")}
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            silent |= set(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return len(lines) - len(silent)


def imports(path: Path, root: Path, package: str) -> set[str]:
    """Return the modules of the package that a file imports, at any place in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (root / inner.replace(".", "/")).with_suffix(".py").is_file()
                found.add(inner if is_module else node.module)
    return {name for name in found if name.split(".")[0] == package}


def functions(text: str) -> list[int]:
    """Return the lengths of the functions in lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, kinds)
    ]


def places(files: list[Path], options: list[str]) -> Counter[str]:
    """Count the places where each option is declared or copied by its name."""
    found: Counter[str] = Counter()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                targets = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
                found.update(each.id for each in targets if isinstance(each, ast.Name) and each.id in options)
            elif isinstance(node, ast.keyword) and node.arg in options:
                copied = [each.attr for each in ast.walk(node.value) if isinstance(each, ast.Attribute)]
                found.update([node.arg] if node.arg in copied else [])
    return found


OPTIONS = [
    "tracking_uri",
    "examples",
    "num_threads",
    "device",
    "precision",
    "backend",
    "max_megapixels",
    "bit_depth",
    "sessions",
    "idle_minutes",
    "tokens",
    "hosts",
    "origins",
    "clicks_per_second",
    "opens_per_minute",
    "cvat_clients",
    "image_hosts",
    "image_networks",
    "label_studio_url",
    "negative_labels",
    "log_format",
]


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path.cwd())
    parser.add_argument("--package", default="serve")
    args = parser.parse_args()
    root = args.tree.resolve()
    files = sorted(path for path in (root / args.package).rglob("*.py") if path.read_text().strip())
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in files}
    arrows = {(names[path], other) for path in files for other in imports(path, root, args.package)}
    rooms = {tuple(".".join(end.split(".")[:2]) for end in arrow) for arrow in arrows}
    rooms = {(start, end) for start, end in rooms if start != end}
    folders = Counter(path.parent for path in files)
    texts = [path.read_text() for path in files]
    print(f"files                {len(files)}, at most {max(folders.values())} in a folder")
    print(f"code lines           {sum(map(code_lines, texts))} of {sum(len(text.splitlines()) for text in texts)}")
    print(f"median function      {statistics.median(length for text in texts for length in functions(text)):g} lines")
    print(f"arrows               {len(arrows)} between files, {len(rooms)} between rooms and files at the root")
    if args.package == "serve":
        counted = places(files, OPTIONS)
        print(f"places of an option  {statistics.mean(counted[name] for name in OPTIONS):.1f} on average")
        done = subprocess.run([sys.executable, "-c", CLICK], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        passed = json.loads(done.stdout.splitlines()[-1])
        way = passed["loop"] + passed["thread"]
        print(f"frames of a click    {len(way)} in {len(set(way))} files")


if __name__ == "__main__":
    main()
