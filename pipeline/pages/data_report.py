"""Write report.html for a prepared data set or a written epoch: numbers, refused items, and pictures."""

from collections.abc import Iterable, Sequence

import numpy as np

from models.storage import Storage
from pipeline.data.bank import Bank, Progress, bank_of_prepared
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import SEVERAL
from pipeline.data.prepared.epoch import read_rows
from pipeline.data.prepared.manifest import decoding_of, read_manifest
from pipeline.data.readers.prepared import Prepared
from pipeline.data.rows import Row
from pipeline.data.sample import BadItem
from pipeline.drawing.figures import COLOURS
from pipeline.drawing.fonts import labels
from pipeline.drawing.overlays import objects_overlay
from pipeline.pages import data_figures as figures
from pipeline.pages.page import Cell, Picture, Table, jpeg, page
from pipeline.pages.preview_page import LEGEND, MODES, row_picture

REPORT = "report.html"
MAX_CATEGORIES, MAX_LICENCES, MAX_REASONS = 30, 15, 30
NUM_PICTURES = 12
NUM_PER_MODE = 3
MAX_SHARDS_FOR_PICTURES = 3

Section = tuple[str, str, list[Picture]]


def write_prepared_report(storage: Storage, title: str, progress: Progress = lambda done, total: None) -> str:
    """Write the report of a prepared data set into its folder and return its name."""
    bank = bank_of_prepared(storage, progress=progress)
    pictures = _pictures(storage)
    legend = "Each object is tinted and outlined. Hatched: ignored pixels."
    charts = [
        Picture(src=figures.areas_figure(bank), caption="Sizes of the objects"),
        Picture(src=figures.per_image_figure(bank), caption="Objects per image"),
        Picture(src=figures.sizes_figure(bank), caption="Sizes of the images; a disc's area is the number of images"),
    ]
    if set(bank.categories) != {""}:
        charts.insert(0, _categories(bank))
    return _write(storage, title, bank, "images", charts, [("Images", legend, pictures)])


def write_epoch_report(
    storage: Storage, config: DataConfig, title: str, progress: Progress = lambda done, total: None
) -> str:
    """Write the report of a written epoch into its folder and return its name."""
    bank = bank_of_prepared(storage, config.floor, progress)
    counts = read_manifest(storage)["counts"]
    modes = {name.removeprefix("mode "): count for name, count in counts.items() if name.startswith("mode ")}
    ranked = sorted(modes.items(), key=lambda entry: (-entry[1], entry[0]))
    charts = [
        Picture(src=figures.counts_figure(ranked, "samples", COLOURS[1]), caption="Samples by copy-paste mode"),
        Picture(src=figures.areas_figure(bank), caption="Sizes of the targets"),
    ]
    sections = [
        (mode, f"{MODES.get(mode, '')} {LEGEND if not number else ''}", [row_picture(row) for row in rows])
        for number, (mode, rows) in enumerate(_rows_by_mode(storage, set(modes)).items())
    ]
    more = [("from images with refused objects", counts.get("with refusals", 0))]
    return _write(storage, title, bank, "samples", charts, sections, more)


def _write(
    storage: Storage,
    title: str,
    bank: Bank,
    unit: str,
    charts: Sequence[Picture],
    sections: Sequence[Section],
    more: Sequence[tuple[str, int]] = (),
) -> str:
    manifest = read_manifest(storage)
    text = page(
        "data.html.j2",
        title=title,
        subtitle=f"{bank.num_images:,} {unit}, {bank.num_objects:,} objects, {manifest['num_bytes'] / 1e6:,.1f} MB in "
        f"{sum(1 for shard in manifest['shards'] if shard['name']):,} shards: {storage.path()}",
        numbers=_numbers(bank, unit, more),
        charts=charts,
        licences=_licences(bank, unit),
        composed=unit == "samples",
        num_refused=bank.num_refused,
        reasons=sorted(bank.refused.items(), key=lambda entry: -entry[1].count)[:MAX_REASONS],
        num_other_reasons=max(0, len(bank.refused) - MAX_REASONS),
        sections=sections,
    )
    storage.write(REPORT, text.encode("utf-8", "backslashreplace"))
    return REPORT


def _numbers(bank: Bank, unit: str, more: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    per_image = sorted(bank.objects_per_image.items())
    without = bank.objects_per_image[0]
    lines: list[tuple[str, str]] = [
        (unit, f"{bank.num_images:,}"),
        ("objects", f"{bank.num_objects:,}"),
        *([(f"{unit} without an object", f"{without:,}")] if without else []),
        (
            f"objects of fewer than {bank.min_object_area} pixels",
            f"{bank.num_small:,} ({bank.num_small / max(1, bank.num_objects):.1%})",
        ),
        *([("categories", f"{len(bank.categories):,}")] if set(bank.categories) - {""} else []),
        *((f"{unit} {name}", f"{number:,}") for name, number in more),
    ]
    if per_image and per_image[-1][0] > 1:
        numbers, counts = np.array(per_image).T
        median = numbers[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]
        mean = bank.num_objects / max(1, bank.num_images)
        lines.insert(2, ("objects per image", f"mean {mean:.1f}, median {median}, maximum {numbers[-1]}"))
    heights, widths = np.array(list(bank.sizes)).T if bank.sizes else (np.zeros(1, int), np.zeros(1, int))
    lines += [("heights", _range(heights)), ("widths", _range(widths))]
    lines.append(("refused items and objects", f"{bank.num_refused:,}"))
    return lines


def _range(numbers: np.ndarray) -> str:
    return f"{numbers.min()}" if numbers.min() == numbers.max() else f"{numbers.min()} to {numbers.max()}"


def _licences(bank: Bank, unit: str) -> Table | None:
    """Make the table of licences by number of images; None if no licence is known."""
    if not set(bank.licences) - {""}:
        return None
    ranked = bank.licences.most_common()
    lines = [(name or "(unknown)", count) for name, count in ranked[:MAX_LICENCES]]
    if rest := ranked[MAX_LICENCES:]:
        lines.append((f"{len(rest)} others", sum(count for _, count in rest)))
    cells = [
        [Cell(text=name), Cell(text=f"{count:,}"), Cell(text=f"{count / bank.num_images:.1%}")] for name, count in lines
    ]
    return Table(head=["licence", unit, ""], groups=[("", cells)])


def _categories(bank: Bank) -> Picture:
    top, num_others, objects_of_others = bank.top_categories(MAX_CATEGORIES)
    text = f"The {len(top)} most frequent categories" if num_others else "Categories"
    more = f"; {num_others} others have {objects_of_others:,} objects" if num_others else ""
    shown, key = labels([name for name, _ in top])
    numbers = [count for _, count in top]
    return Picture(
        src=figures.counts_figure(list(zip(shown, numbers, strict=True)), "objects"),
        caption=text + more,
        alt=f"{text}: {', '.join(f'{name or figures.NO_CATEGORY} {count:,}' for name, count in top)}",
        key=key,
    )


def _pictures(storage: Storage) -> list[Picture]:
    """Draw images spread evenly over the data set."""
    reader = Prepared(root=storage.uri, decoding=decoding_of(read_manifest(storage)))
    items = reader.items()
    pictures = []
    for number in np.unique(np.linspace(0, len(items) - 1, min(NUM_PICTURES, len(items))).round().astype(int)).tolist():
        try:
            sample = reader.load(items[number])
        except BadItem as error:
            pictures.append(Picture(src="", caption=str(error)))
            continue
        height, width = sample.image.shape[:2]
        objects = f"{len(sample.objects)} object{'' if len(sample.objects) == 1 else 's'}"
        pictures.append(
            Picture(src=jpeg(objects_overlay(sample)), caption=f"{sample.id}: {objects}, {height} x {width}")
        )
    return pictures


def _rows_by_mode(storage: Storage, modes: set[str]) -> dict[str, list[Row]]:
    """Return the first rows of each mode from the first shards; rows of several modes form one group."""
    shards = [shard["name"] for shard in read_manifest(storage)["shards"] if shard["name"]]
    wanted = {SEVERAL if "+" in mode else mode for mode in modes}
    found: dict[str, list[Row]] = {mode: [] for mode in MODES if mode in wanted}
    for row in read_rows(storage, shards[:MAX_SHARDS_FOR_PICTURES]):
        group = SEVERAL if "+" in row["mode"] else row["mode"] or "none"
        if len(found[group]) < NUM_PER_MODE:
            found[group].append(row)
        if all(len(rows) == NUM_PER_MODE for rows in found.values()):
            break
    return found
