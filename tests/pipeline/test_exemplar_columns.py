from dataclasses import replace

import numpy as np
import pytest

from models.errors import InputError
from models.interaction import Clicks
from pipeline.clicks.first_clicks import first_clicks
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig, exemplar_columns, select_kind
from pipeline.data.local import stream
from pipeline.data.readers import open_reader
from pipeline.data.rows import collate
from pipeline.data.sample import Exemplar, Sample, pack_objects
from pipeline.training.batch import to_device


def square(top: int, left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((100, 120), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def zoo(*categories: str, exemplar: str = "") -> Sample:
    masks = [(f"o{i}", name, square(5 + 25 * (i // 4), 3 + 28 * (i % 4))) for i, name in enumerate(categories)]
    sample = pack_objects("zoo", np.zeros((100, 120, 3), np.uint8), masks)
    if exemplar:
        sample = replace(sample, exemplar=Exemplar(object_id=exemplar, clicks=Clicks.none()))
    return sample


def test_categories_of_several_objects_are_preferred() -> None:
    sample = zoo("cat", "dog", "cat", "cow", "cow", "cow")
    drawn = [select_kind(sample, np.random.default_rng(seed)) for seed in range(40)]
    assert {chosen.ids for chosen, _ in drawn} == {("o0", "o2"), ("o3", "o4", "o5")}
    assert {ref.id for _, ref in drawn if ref is not None} == {"o0", "o2", "o3", "o4", "o5"}
    for chosen, _ in drawn:
        assert chosen.target.sum() == 400 * len(chosen.ids)


def test_the_stored_exemplar_is_kept_if_it_is_left() -> None:
    assert {select_kind(zoo("a", "a", "a", exemplar="o1"), np.random.default_rng(s))[1].id for s in range(9)} == {"o1"}  # pyright: ignore
    lost = {select_kind(zoo("a", "a", exemplar="gone"), np.random.default_rng(s))[1].id for s in range(20)}  # pyright: ignore
    assert lost == {"o0", "o1"}


def test_no_object_gives_an_empty_target_and_no_exemplar() -> None:
    chosen, ref = select_kind(zoo(), np.random.default_rng(0))
    columns = exemplar_columns(zoo(), chosen.target, ref, np.random.default_rng(0))
    assert ref is None
    assert not chosen.target.any()
    assert not columns["exemplar_mask"].any()
    assert not columns["exemplar_clicks_valid"].any()


def test_true_negatives_lie_on_no_other_object() -> None:
    sample = zoo("a", "a", "a")
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        chosen, ref = select_kind(sample, rng)
        columns = exemplar_columns(sample, chosen.target, ref, rng)
        others = chosen.target & ~columns["exemplar_mask"].astype(bool)
        for yx, positive, true in zip(
            columns["exemplar_clicks_yx"][columns["exemplar_clicks_valid"]].astype(int),
            columns["exemplar_clicks_positive"],
            columns["exemplar_clicks_true"],
            strict=False,
        ):
            place = tuple(yx)
            seen.add((bool(positive), bool(true)))
            assert bool(positive) == bool(columns["exemplar_mask"][place])
            assert bool(true) == (not positive and not others[place])
    assert seen == {(True, False), (False, True), (False, False)}


def test_rows_of_the_stream_become_exemplars_on_the_device() -> None:
    config = DataConfig(
        crop_hw=(128, 160), window_size=4, min_object_area=50, exemplar=ExemplarColumnsConfig(enabled=True)
    )
    rows = stream(open_reader("scenes", None, "", {"num_images": "8"}), config)
    batch = to_device(collate([next(rows) for _ in range(4)]), "cpu")
    assert batch.exemplar is not None
    assert batch.exemplar.mask.shape == (4, 1, 128, 160)
    assert ((batch.exemplar.mask == 1) <= (batch.target != 0)).all()
    assert batch.exemplar.mask.sum() > 0
    halves = batch.parts(2)
    assert [len(part.image) for part in halves] == [2, 2]
    assert halves[1].exemplar is not None
    assert (halves[1].exemplar.positive.yx == batch.exemplar.positive.yx[2:]).all()


def test_copy_paste_is_refused() -> None:
    with pytest.raises(InputError, match=r"exemplar\.enabled"):
        DataConfig(exemplar=ExemplarColumnsConfig(enabled=True), copy_paste=CopyPasteConfig(recipe="exclusive"))


def test_first_clicks_lie_deep_in_each_object() -> None:
    masks = [square(10, 10), square(50, 60, 31)]
    for seed in range(20):
        positive, negative = first_clicks(masks, np.random.default_rng(seed))
        assert negative == []
        for pixel, (top, left, side) in zip(positive, ((10, 10, 20), (50, 60, 31)), strict=True):
            y, x = divmod(pixel, 120)
            depth = min(y - top, x - left, top + side - 1 - y, left + side - 1 - x) + 1
            assert depth > ((side + 1) // 2) / 1.7


def test_first_clicks_are_numbered_as_such() -> None:
    config = DataConfig(
        crop_hw=(96, 96),
        window_size=8,
        min_object_area=50,
        keep_background_prob=0.0,
        clicks=RandomClicksConfig(law="first", merge_objects_prob=1.0),
    )
    rows = stream(open_reader("scenes", None, "", {"num_images": "8"}), config)
    batch = to_device(collate([next(rows) for _ in range(8)]), "cpu")
    assert (batch.clicks.first == batch.clicks.valid).all()
    assert batch.clicks.first.sum(1).max() == 2
