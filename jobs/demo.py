"""`python -m jobs.demo`: the main job, end to end, in minutes: play the model in the box, fine-tune, compare, serve."""

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
    """Play the model in the box on generated scenes, fine-tune it on others, compare, register, serve."""

    out: str = "runs/demo"
    """Folder of the demo; an earlier demo in it is moved aside."""
    serve: bool = True
    """Keep serving at the end; False: one HTTP session, then stop."""
    steps: int = 0
    """Training steps; 0: the preset's."""
    objects: int = 80
    """Objects per evaluation, at least 2."""
    port: int = 8000


def main(argv: Sequence[str]) -> int:
    """Run all of it."""
    config = parse(DemoConfig, argv, prog="demo")
    if config.objects < 2:
        raise InputError(f"--objects {config.objects}: expected at least 2: the comparison needs an interval")
    out = absolute_path("--out", config.out)
    refuse_taken_port(config.port)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MARKER).is_file():
            raise InputError(f"--out {config.out} exists and holds no demo: name another folder")
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
    print(f"report      {report}\ndifference  {out / 'compare.html'}\ncheckpoint  {checkpoint}\nmodel       {model}")
    print(f"MLflow      {uri}   (look: mlflow ui --backend-store-uri {uri})")
    print(f"took        {(time.monotonic() - started) / 60:.1f} min so far\n", flush=True)
    return serve(config, uri, model, examples)


def learn_and_measure(config: DemoConfig, out: Path, uri: str) -> tuple[Path, list[ObjectRow], list[dict[str, Any]]]:
    """Play the model in the box on scenes, fine-tune it on others, and play the same objects again."""
    from jobs.evaluate import RECOMMENDED, evaluate
    from pipeline.evaluation import results

    preset: TrainConfig = demo_scenes()
    if config.steps:
        preset = dataclasses.replace(preset, training=dataclasses.replace(preset.training, steps=config.steps))
    preset = dataclasses.replace(preset, out=str(out / "training"))
    print(f"1/4  {box.DEFAULT}, which learnt from photos alone, plays generated scenes", flush=True)
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
    print("3/4  the fine-tuned model plays the same objects", flush=True)
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
    """Write the demo's report: everything in one page."""
    from pipeline.data.readers import open_reader
    from pipeline.pages.report import write_report
    from pipeline.training.history import read_history

    write_json(out / "summary.json", summaries)
    shown = next(s for s in summaries if s["refinement"] == "after")
    write_report(
        out / "report.html",
        title="Maskwright demo",
        subtitle=f"{box.DEFAULT} before and after fine-tuning on generated scenes; {shown['objects']} objects of "
        "scenes that training never showed, robot user of the RITM protocol",
        rows=rows,
        summaries=summaries,
        readers={"scenes": open_reader("scenes", None, "val")},
        shown=key_of(shown),
        history=read_history(out / "training" / "ray" / "history.jsonl"),
    )
    return out / "report.html"


def write_examples(folder: Path, num: int = 6) -> Path:
    """Write a few scenes for the page to offer."""
    from pipeline.data.readers import open_reader

    reader = open_reader("scenes", None, "test", {"num_images": str(num), "height": "480", "width": "640"})
    for number, item in enumerate(reader.items(), start=1):
        write_image(folder / f"scene-{number}.jpg", reader.load(item).image)
    return folder


def register(uri: str, out: Path, checkpoint: Path, summaries: list[dict[str, Any]]) -> str:
    """Log the evaluations to the training's run and register its checkpoint."""
    from jobs.evaluate import flat_metrics

    run_id = json.loads((out / "training" / "config.json").read_text())["run_id"]
    for summary in summaries:
        prefix = summary["refinement"].replace(", ", "/") + "/"
        tracking.log_metrics(uri, run_id, 0, flat_metrics(summary), prefix=prefix)
    tracking.log_files(uri, run_id, out / "report.html", "report")
    return tracking.register(uri, run_id, checkpoint, name="maskwright-demo")


def serve(config: DemoConfig, uri: str, model: str, examples: Path) -> int:
    """Serve the registered model in a separate process; make one session, or stay until Ctrl-C."""
    address = f"http://127.0.0.1:{config.port}"
    print(f"4/4  serving {model} at {address}", flush=True)
    command = [sys.executable, "-m", "serve", "--checkpoint", model, "--examples", str(examples)]
    server = subprocess.Popen([*command, "--tracking-uri", uri, "--port", str(config.port)])
    try:
        wait_until_ready(address, server)
        session(address, next(examples.glob("*.jpg")))
        if config.serve:
            print(f"\nclick on it: {address}   (Ctrl-C ends it)", flush=True)
            return server.wait()
        return 0
    except KeyboardInterrupt:
        return 0
    finally:
        server.send_signal(signal.SIGINT)  # as Ctrl-C: Ray ends in order
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()


def refuse_taken_port(port: int) -> None:
    """Raise InputError if something listens there already: the demo would end by talking to it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"--port {port} is taken ({error.strerror}): end what runs there, or name another"
            ) from None


def wait_until_ready(address: str, server: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    """Wait for the server's health."""
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {server.returncode} before it was ready")
        time.sleep(0.5)
        with contextlib.suppress(httpx.TransportError):  # not listening yet
            if httpx.get(f"{address}/v1/health/ready", timeout=2).status_code == 200:
                return
    raise RuntimeError(f"the server at {address} was not ready after {seconds:.0f} s")


def session(address: str, image: Path) -> None:
    """Make one session over HTTP, as any client would: open, two clicks, undo, mask, close."""
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
        print(f"  one HTTP session: mask of {len(mask.content)} bytes PNG, session closed", flush=True)


if __name__ == "__main__":
    run_job(main)
