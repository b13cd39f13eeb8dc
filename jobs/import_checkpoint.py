"""`python -m jobs.import_checkpoint FILE --network NAME --out DIR`: convert published weights to a checkpoint."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jobs.cli import absolute_path, out_place, parse, run_job
from models import checkpoint
from models.errors import InputError, lookup
from models.networks import NETWORKS
from models.networks.base import Network
from models.published.importing import Imported, fresh_groups, import_backbone, import_base, import_model, import_pair
from models.refinement import build, named, to_dict
from models.storage import Storage, is_address, without_key
from models.working import whole_place, working


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Convert a published weights file to a checkpoint, or put a pre-trained backbone into a network to train."""

    file: Annotated[str, tyro.conf.Positional]
    """File to read: .pth, .safetensors or MobileSAM's encoder.onnx; with --as base also a checkpoint folder."""
    decoder: Annotated[str | None, tyro.conf.Positional] = None
    """MobileSAM's decoder.onnx, if the first file is its encoder.onnx."""
    network: str
    """Network that the weights are for, one of NETWORKS, such as ritm_hrnet18s."""
    out: str
    """Folder or address (s3://BUCKET/FOLDER) to write the checkpoint to."""
    kind: Annotated[Literal["model", "backbone", "base"], tyro.conf.arg(name="as")] = "model"
    """What the file holds: model, a whole published model; backbone, pre-trained weights of timm, MAE, torchvision or
    the authors; base, a fine-tuned SimpleClick network for emc_vit_*, or mobile_sam for lite_s."""
    backbone: str | None = None
    """timm's name of the backbone, such as tf_efficientnet_lite0, for --network lite_s with --as backbone; default: the
    network's own."""
    seed: int = 0
    """Random seed of the weights that the file does not set."""
    licence: str | None = None
    """Licence to record; default: that of the published weights, where it is known."""
    refine: str | None = None
    """Refinement to recommend, a name or a JSON file; default: the one that the authors evaluate with."""


def main(argv: Sequence[str]) -> int:
    """Parse the flags, convert the file, write the checkpoint and print what it contains."""
    config = parse(ImportConfig, argv, prog="import_checkpoint")
    file, out = absolute_path("FILE", config.file), out_place("--out", config.out)
    lookup("network", config.network, NETWORKS)
    refuse_other_content(out)
    if config.backbone is not None and config.kind != "backbone":
        raise InputError(f"--backbone {config.backbone} goes with --as backbone, not with --as {config.kind}")
    if config.decoder is not None:
        if config.kind != "model":
            raise InputError(f"--as {config.kind} reads one file; only a whole model (--as model) can have two")
        imported = import_pair(file, absolute_path("DECODER", config.decoder), config.network)
    elif config.kind == "model":
        imported = import_model(file, config.network)
    elif config.kind == "backbone":
        imported = import_backbone(file, config.network, config.seed, config.backbone)
    else:
        imported = import_base(file, config.network, config.seed)
    refinement = named(config.refine or imported.refinement)
    build(refinement, imported.network.traits)  # raises if this network does not support it
    source = imported.source
    origin = {"file": source.file, "sha256": source.sha256, "class": source.published_class, "as": config.kind}
    info = {
        "source": origin if config.kind == "model" else origin | {"seed": config.seed},
        "licence": config.licence or source.licence,
        "refinement": to_dict(refinement),
    }
    write(imported.network, out, info, imported.photos)
    print("\n".join(describe(imported, info, config.refine or imported.refinement)))
    print(f"-> {without_key(out)}")
    return 0


def refuse_other_content(out: str) -> None:
    """Raise InputError unless `out` is new, empty or a checkpoint."""
    path, other = Path(out), f"--out {without_key(out)} holds other files: name a new or an empty folder"
    if is_address(out):
        storage = Storage(out)
        if storage.exists() and not storage.exists(checkpoint.DESCRIPTION):
            raise InputError(other)
        return
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {out} is a file: name a folder")
        if path.is_dir() and any(path.iterdir()) and not (path / checkpoint.DESCRIPTION).is_file():
            raise InputError(other)
    except OSError as error:
        raise InputError(f"--out {out} cannot be used: {error}") from error


def write(network: Network, out: str, info: dict[str, Any], photos: Collection[int] = ()) -> None:
    """Save a checkpoint atomically; one that is already at `out` is replaced only if it comes from the same import.

    `photos`: fingerprints of the images that it was trained on, if they are known.

    Raises InputError if `out` holds another checkpoint, or cannot be written.
    """
    if Storage(out).exists(checkpoint.DESCRIPTION):
        there = checkpoint.describe(out)
        known = there["info"].get("source") or {"sha256": None}
        # Fields that an earlier version did not record count as equal.
        if there["network"] != network.name or info["source"] | known != info["source"]:
            place = without_key(out)
            raise InputError(f"--out {place} holds another checkpoint, of {there['network']}: name a new folder")
        with working(out) as folder:
            checkpoint.save(network, folder, photos=photos, **info)
        return
    with whole_place(out) as folder:
        checkpoint.save(network, folder, photos=photos, **info)


def describe(imported: Imported, info: dict[str, Any], refinement: str) -> list[str]:
    """Return the lines to print: the file, the tensors that are used or left out, and what is recorded."""
    network, source, report = imported.network, imported.source, imported.report
    built = sum(parameter.numel() for parameter in network.parameters())
    lines = [f"file         {source.file}", f"SHA-256      {source.sha256}"]
    lines += [f"class        {source.published_class}"] if source.published_class else []
    lines += [f"weights      in the file's {source.place}"] if source.place else []
    lines += [f"prefix       {source.prefix}, stripped from all names"] if source.prefix else []
    lines += [f"network      {network.name}, {built:,} parameters"]
    if report is not None:
        lines += [
            f"loaded       {report.num_loaded} tensors, all that the network has",
            f"dead         {report.num_dead} tensors that no forward uses",
            *([f"aliases      {report.num_aliases} verified copies of other tensors"] * (report.num_aliases > 0)),
            f"left out     {report.dead_parameters:,} values: dead tensors, aliases and unused parts",
        ]
        if report.missing_dead:
            names = ", ".join(report.missing_dead[:3]) + (", ..." if len(report.missing_dead) > 3 else "")
            lines += [f"missing      {len(report.missing_dead)} dead tensors, which are not needed: {names}"]
    else:
        state = network.state_dict()
        values = sum(state[name].numel() for name in imported.started)
        lines += [f"set          {len(imported.started)} of {len(state)} tensors, {values:,} values"]
        groups = fresh_groups(network, imported.started)
        named_groups = ", ".join(f"{group} ({count})" for group, count in groups.items()) or "nothing"
        lines += [f"fresh        {named_groups}, drawn with seed {info['source']['seed']}"]
    return [*lines, f"licence      {info['licence']}", f"refinement   {refinement}"]


if __name__ == "__main__":
    run_job(main)
