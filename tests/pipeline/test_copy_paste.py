from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from models.errors import InputError
from pipeline.data.copy_paste import (
    COPY_PASTE_RECIPES,
    CopyPasteConfig,
    Pasted,
    blend,
    distract,
    exclusion,
    mixing,
    simple,
    union,
)
from pipeline.data.objects import Selection, select_object
from pipeline.data.sample import Sample, pack_objects
from tests.pipeline.fakes import fake_sample

HW = (4, 6)
TARGET = np.zeros(HW, bool)
TARGET[1:3, 1:4] = True
FOREIGN = np.zeros(HW, bool)
FOREIGN[2:4, 2:6] = True


def flat(value: int) -> np.ndarray:
    return np.full((*HW, 3), value, np.uint8)


def values(image: np.ndarray, mask: np.ndarray) -> set[int]:
    return set(image[mask].ravel().tolist())


def test_simple_blends_the_object_onto_the_partner() -> None:
    image, target = simple(flat(200), TARGET, flat(40), 0.75)
    assert values(image, TARGET) == {160}
    assert values(image, ~TARGET) == {40}
    assert np.array_equal(target, TARGET)


def test_union_adds_the_foreign_object_to_the_target() -> None:
    image, target = union(flat(200), TARGET, flat(40), FOREIGN)
    assert values(image, FOREIGN) == {40}
    assert values(image, ~FOREIGN) == {200}
    assert np.array_equal(target, TARGET | FOREIGN)


def test_exclusion_removes_covered_pixels_from_the_target() -> None:
    image, target = exclusion(flat(200), TARGET, flat(40), FOREIGN)
    assert values(image, FOREIGN) == {40}
    assert values(image, ~FOREIGN) == {200}
    assert target.sum() == 4
    assert not (target & FOREIGN).any()


def test_mixing_blends_all_and_distract_only_the_foreign_object() -> None:
    image, target = mixing(flat(200), TARGET, flat(40), 0.5)
    assert values(image, TARGET | ~TARGET) == {120}
    assert np.array_equal(target, TARGET)
    image, target = distract(flat(200), TARGET, flat(40), FOREIGN, 0.5)
    assert values(image, FOREIGN) == {120}
    assert values(image, ~FOREIGN) == {200}
    assert np.array_equal(target, TARGET)


def test_blending_rounds_half_to_even() -> None:
    pairs = np.array([[1, 2], [2, 3], [3, 4], [4, 5], [255, 254], [255, 255], [0, 1]], np.uint8)
    assert blend(pairs[:, :1], pairs[:, 1:], 0.5).ravel().tolist() == [2, 2, 4, 4, 254, 255, 0]


def selector(rng: np.random.Generator) -> Callable[[Sample], Selection]:
    return lambda sample: select_object(sample, rng, 0.15, 2)


def run(config: CopyPasteConfig, seed: int, sample: Sample, partner: Sample) -> Pasted:
    rng = np.random.default_rng(seed)
    return COPY_PASTE_RECIPES[config.recipe](sample, lambda: partner, selector(rng), rng, config)


@pytest.mark.parametrize("recipe", sorted(COPY_PASTE_RECIPES))
def test_recipes_keep_shapes_and_name_their_modes(recipe: str) -> None:
    sample, partner = fake_sample("own", 1), fake_sample("partner", 2)
    config = CopyPasteConfig(recipe=recipe)
    for seed in range(40):
        out = run(config, seed, sample, partner)
        assert out.sample.image.shape == sample.image.shape
        assert out.sample.image.dtype == np.uint8
        assert len(out.modes) == len(out.partners)
        assert out.sample.id == "own"
        assert set(out.partners) <= {"partner"}
        assert np.array_equal(out.sample.image, sample.image) == (not out.modes)
        if set(out.modes) - {"mixing"}:
            assert len(out.sample.objects) == 1
            assert out.sample.object_mask(out.sample.objects[0]).any()
        else:
            assert out.sample.objects == sample.objects
    assert np.array_equal(sample.image, fake_sample("own", 1).image)
    assert np.array_equal(sample.instance_masks, fake_sample("own", 1).instance_masks)


def test_exclusive_uses_one_mode_at_most_at_the_given_odds() -> None:
    sample, partner = fake_sample("own", 1, (24, 32)), fake_sample("partner", 2, (24, 32))
    config = CopyPasteConfig(recipe="exclusive", prob=0.6, simple_weight=2, mixing_weight=0, min_left=0)
    modes = Counter(run(config, seed, sample, partner).modes for seed in range(3000))
    assert set(modes) == {(), ("simple",), ("union",), ("exclusion",)}
    # A partner that covers the whole target is refused, so union and exclusion fall a little short.
    for key, expected in (((), 0.4), (("simple",), 0.3), (("union",), 0.15), (("exclusion",), 0.15)):
        assert modes[key] / 3000 == pytest.approx(expected, abs=0.04)


def test_three_gates_open_independently() -> None:
    sample, partner = fake_sample("own", 1, (24, 32)), fake_sample("partner", 2, (24, 32))
    config = CopyPasteConfig(recipe="three_gates", mix_prob=0.25, min_left=0)
    modes = [run(config, seed, sample, partner).modes for seed in range(2000)]
    assert np.mean(["simple" in m for m in modes]) == pytest.approx(0.5, abs=0.04)
    assert np.mean(["mixing" in m for m in modes]) == pytest.approx(0.25, abs=0.04)
    second = Counter(m for used in modes for m in used if m not in ("simple", "mixing"))
    assert set(second) == {"exclusion", "union", "distract"}
    assert max(second.values()) / min(second.values()) < 1.35
    assert any(len(m) == 3 for m in modes)


def test_unusable_partners_are_refused_five_times() -> None:
    full = pack_objects("full", flat(9), [("o", "", np.ones(HW, bool))])
    nothing = pack_objects("nothing", flat(9), [])
    sample = pack_objects("own", flat(200), [("o", "", TARGET)])
    config = CopyPasteConfig(
        recipe="exclusive", prob=1, simple_weight=0, exclusion_weight=0, mixing_weight=0, min_left=0
    )
    for partner in (full, nothing):
        calls = []
        out = COPY_PASTE_RECIPES["exclusive"](
            sample,
            lambda partner=partner, calls=calls: calls.append(1) or partner,
            selector(np.random.default_rng(0)),
            np.random.default_rng(0),
            config,
        )
        assert (len(calls), out.modes, out.sample) == (5, (), sample)


def test_the_limit_of_uncovered_pixels_is_strict() -> None:
    sample = pack_objects("own", flat(200), [("o", "", TARGET)])
    partner = pack_objects("p", flat(9), [("o", "", FOREIGN)])  # leaves 4 of 6 pixels
    for min_left, used in ((4, ()), (3, ("exclusion",))):
        config = CopyPasteConfig(
            recipe="exclusive", prob=1, simple_weight=0, union_weight=0, mixing_weight=0, min_left=min_left
        )
        assert run(config, 0, sample, partner).modes == used


def test_an_empty_sample_can_only_be_mixed() -> None:
    empty, partner = fake_sample("own", 1, empty=True), fake_sample("partner", 2)
    modes = {run(CopyPasteConfig(recipe="three_gates"), seed, empty, partner).modes for seed in range(40)}
    assert modes == {(), ("mixing",)}


def test_pasted_pixels_are_never_ignored() -> None:
    ignore = np.ones(HW, bool)
    sample = pack_objects("own", flat(200), [("o", "", TARGET)], ignore)
    partner = pack_objects("p", flat(9), [("o", "", FOREIGN)])
    for mode, expected in (("simple", TARGET), ("union", ~FOREIGN), ("exclusion", ~FOREIGN), ("mixing", ignore)):
        weights = {f"{m}_weight": float(m == mode) for m in ("simple", "union", "exclusion", "mixing")}
        out = run(CopyPasteConfig(recipe="exclusive", prob=1, min_left=0, **weights), 0, sample, partner)
        assert out.modes == (mode,)
        assert np.array_equal(out.sample.ignore_mask, expected)


def test_wrong_settings_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"copy_paste.prob is 1.5"):
        CopyPasteConfig(prob=1.5)
    with pytest.raises(InputError, match="not all 0"):
        CopyPasteConfig(simple_weight=0, union_weight=0, exclusion_weight=0, mixing_weight=0)
    with pytest.raises(InputError, match="known: exclusive, none, three_gates"):
        CopyPasteConfig(recipe="suem")
