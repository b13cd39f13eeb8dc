"""`python -m jobs.demo`: evaluate the model in the box, fine-tune it, compare and serve, all in a few minutes."""

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import tracking
from jobs.cli import absolute_path, parse, run_job
from jobs.compare import main as compare
from jobs.config import EvaluateConfig, TrainConfig
from jobs.presets.lite import demo_scenes
from jobs.train import check, train
from models import box
from models.errors import InputError
from models.files import refusing, write, write_image, write_json
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.results import key_of

MARKER = ".maskwright-demo"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Evaluate maskwright:lite_s on generated scenes, fine-tune it on others, compare, register and serve it."""

    out: str = "runs/demo"
    """Folder of the demo; an earlier demo there is renamed, not overwritten."""
    serve: bool = True
    """Keep the server running at the end; --no-serve: make one HTTP session, then stop."""
    steps: int = 0
    """Training steps; 0: those of the preset demo_scenes."""
    objects: int = 80
    """Objects per evaluation, at least 2."""
    port: int = 8000
    """Port of the server on 127.0.0.1."""


def main(argv: Sequence[str]) -> int:
    """Run the demo: evaluate, fine-tune, evaluate again, compare, register and serve."""
    config = parse(DemoConfig, argv, prog="demo")
    if config.objects < 2:
        raise InputError(f"--objects {config.objects}: expected at least 2, for the comparison's confidence interval")
    out = absolute_path("--out", config.out)
    refuse_taken_port(config.port)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MARKER).is_file():
            raise InputError(f"--out {config.out} exists and does not hold a demo: name another folder")
        aside = out.with_name(f"{out.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}-again")
        with refusing(out):
            out.rename(aside)
    write(out / MARKER, "made by jobs.demo\n")
    uri = tracking.answering_uri(out)
    started = time.monotonic()
    from jobs.ray_env import connected

    with connected("local"):
        checkpoint, rows, summaries = learn_and_measure(config, out, uri)
    report = write_all(out, rows, summaries)
    examples = write_examples(out / "examples")
    model = register(uri, out, checkpoint, summaries)
    from pipeline.evaluation import results

    print(f"\n{results.table(summaries)}\n")
    compare([str(out / "before"), str(out / "after"), "--out", str(out), "--reader", "scenes", "--split", "val"])
    print(f"report      {report}\ncomparison  {out / 'compare.html'}\ncheckpoint  {checkpoint}\nmodel       {model}")
    print(f"MLflow      {uri}   (view it: mlflow ui --backend-store-uri {uri})")
    print(f"took        {(time.monotonic() - started) / 60:.1f} min so far\n", flush=True)
    return serve(config, uri, model, examples)


def learn_and_measure(config: DemoConfig, out: Path, uri: str) -> tuple[Path, list[ObjectRow], list[dict[str, Any]]]:
    """Evaluate the model in the box on scenes, fine-tune it on others, and evaluate it on the same objects."""
    from jobs.evaluate import RECOMMENDED, evaluate
    from pipeline.evaluation import results

    preset: TrainConfig = demo_scenes()
    if config.steps:
        preset = dataclasses.replace(preset, training=dataclasses.replace(preset.training, steps=config.steps))
    preset = dataclasses.replace(preset, out=str(out / "training"))
    print(f"1/4  evaluating {box.DEFAULT}, which was trained on photos only, on generated scenes", flush=True)
    protocol = EvaluateConfig(
        checkpoint=box.DEFAULT,
        reader="scenes",
        split="val",
        refine=(RECOMMENDED,),
        protocol=EvaluationConfig(
            max_clicks=10,
            target_iou=0.90,
            qualities=(0.80, 0.85, 0.90),
            at_clicks=(1, 3, 5),
            max_objects=config.objects,
            min_area=300,
        ),
        scaling=EvaluationScaling(num_cpus=0.9),
        num_overlays=4,
    )
    before = evaluate(protocol, out / "before", dataset="scenes", title="Before training")
    print("2/4  fine-tuning it with the iterative click loss on other scenes", flush=True)
    checkpoint = train(check(preset), out / "training", uri, name="demo_scenes")
    print("3/4  evaluating the fine-tuned model on the same objects", flush=True)
    after = evaluate(
        dataclasses.replace(protocol, checkpoint=str(checkpoint)),
        out / "after",
        dataset="scenes",
        title="After training",
    )
    rows: list[ObjectRow] = []
    summaries: list[dict[str, Any]] = []
    for when, folder, part in (("before", "before", before), ("after", "after", after)):
        read, _ = results.read(out / folder)
        rows += [dataclasses.replace(row, refinement=when) for row in read]
        summaries += [{**summary, "refinement": when} for summary in part]
    return checkpoint, rows, summaries


def write_all(out: Path, rows: list[ObjectRow], summaries: list[dict[str, Any]]) -> Path:
    """Write the demo's report, one page with all results, and return its path."""
    from pipeline.data.readers import open_reader
    from pipeline.pages.report import write_report
    from pipeline.training.history import read_history

    write_json(out / "summary.json", summaries)
    shown = next(s for s in summaries if s["refinement"] == "after")
    write_report(
        out / "report.html",
        title="Maskwright demo",
        subtitle=f"{box.DEFAULT} before and after fine-tuning on generated scenes; {shown['objects']} objects of "
        "scenes that are not in the training data, robot user of the RITM protocol",
        rows=rows,
        summaries=summaries,
        readers={"scenes": open_reader("scenes", None, "val")},
        shown=key_of(shown),
        history=read_history(out / "training" / "ray" / "history.jsonl"),
    )
    return out / "report.html"


def write_examples(folder: Path, num: int = 6) -> Path:
    """Write a few scenes that the web page offers as examples."""
    from pipeline.data.readers import open_reader

    reader = open_reader("scenes", None, "test", {"num_images": str(num), "height": "480", "width": "640"})
    for number, item in enumerate(reader.items(), start=1):
        write_image(folder / f"scene-{number}.jpg", reader.load(item).image)
    return folder


def register(uri: str, out: Path, checkpoint: Path, summaries: list[dict[str, Any]]) -> str:
    """Log the evaluations to the MLflow run of the training and register its checkpoint."""
    from jobs.evaluate import flat_metrics

    run_id = json.loads((out / "training" / "config.json").read_text())["run_id"]
    for summary in summaries:
        prefix = summary["refinement"].replace(", ", "/") + "/"
        tracking.log_metrics(uri, run_id, 0, flat_metrics(summary), prefix=prefix)
    tracking.log_files(uri, run_id, out / "report.html", "report")
    return tracking.register(uri, run_id, checkpoint, name="maskwright-demo")


def serve(config: DemoConfig, uri: str, model: str, examples: Path) -> int:
    """Serve the registered model in a separate process and make one session; then keep serving, or stop."""
    address = f"http://127.0.0.1:{config.port}"
    print(f"4/4  serving {model} at {address}", flush=True)
    command = [sys.executable, "-m", "serve", "--checkpoint", model, "--examples", str(examples)]
    server = subprocess.Popen([*command, "--tracking-uri", uri, "--port", str(config.port)])
    try:
        wait_until_ready(address, server)
        session(address, next(examples.glob("*.jpg")))
        if config.serve:
            print(f"\nopen {address} and click   (Ctrl-C stops the server)", flush=True)
            return server.wait()
        return 0
    except KeyboardInterrupt:
        return 0
    finally:
        server.send_signal(signal.SIGINT)  # as Ctrl-C does, so that Ray shuts down properly
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()


def refuse_taken_port(port: int) -> None:
    """Raise InputError if the port is in use: the demo would otherwise talk to that program at the end."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"--port {port} is in use ({error.strerror}): stop the program that uses it, or choose another port"
            ) from None


def wait_until_ready(address: str, server: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    """Wait until the server reports that it is ready; raises RuntimeError if it exits or takes too long."""
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server exited with code {server.returncode} before it was ready")
        time.sleep(0.5)
        with contextlib.suppress(httpx.TransportError):  # not listening yet
            if httpx.get(f"{address}/v1/health/ready", timeout=2).status_code == 200:
                return
    raise RuntimeError(f"the server at {address} was not ready after {seconds:.0f} s")


def session(address: str, image: Path) -> None:
    """Make one session over HTTP, as a client does: open, two clicks, undo, mask, close."""
    import httpx

    with httpx.Client(base_url=address, timeout=60) as http:
        answer = http.post("/v1/sessions", content=image.read_bytes(), headers={"content-type": "image/jpeg"})
        opened = answer.raise_for_status().json()
        url = f"/v1/sessions/{opened['session_id']}"
        middle = {"x": opened["width"] // 2, "y": opened["height"] // 2}
        for click in ({**middle, "positive": True}, {"x": 5, "y": 5, "positive": False}):
            clicked = http.post(f"{url}/clicks", json=click).raise_for_status().json()
            print(f"  click {click}: {clicked['area']} pixels in {clicked['milliseconds']:.0f} ms", flush=True)
        http.post(f"{url}/undo").raise_for_status()
        mask = http.get(f"{url}/mask", params={"format": "png"}).raise_for_status()
        assert mask.headers["content-type"] == "image/png"
        assert http.delete(url).status_code == 204
        print(f"  one HTTP session: got the mask ({len(mask.content)} bytes of PNG) and closed the session", flush=True)


if __name__ == "__main__":
    run_job(main)
