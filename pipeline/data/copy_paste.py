"""SUEM copy-paste: simple, union, exclusion and mixing of two samples of one size.

docs/PAPERS.md, CFR-ICL: SUEM copy-paste. Each mode is a function of (image, mask) pairs; a recipe chooses the modes for
a sample. Images are uint8 (h, w, 3), masks bool (h, w). Nothing is moved or scaled: objects are pasted at their
original position.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import cv2
import numpy as np

from models.errors import InputError, lookup
from models.records import AtLeast, Count, Fraction, Positive, Record
from pipeline.data.objects import Selection
from pipeline.data.sample import ObjectRef, Sample


@dataclass(frozen=True, kw_only=True)
class CopyPasteConfig(Record):
    """Copy-paste recipe and its probabilities."""

    called = "copy_paste"

    recipe: str = "none"
    """none, three_gates (as in CFR-ICL's public code) or exclusive (at most one of the paper's four modes)."""
    prob: Fraction = 0.5
    """exclusive: probability of using a mode; three_gates: probability of each of the first two gates."""
    mix_prob: Fraction = 0.5
    """three_gates: probability of the third gate (mixing)."""
    simple_weight: Annotated[float, AtLeast(0)] = 1.0
    """exclusive: relative weight of pasting the object onto the partner's image."""
    union_weight: Annotated[float, AtLeast(0)] = 1.0
    """exclusive: relative weight of pasting a foreign object that joins the target."""
    exclusion_weight: Annotated[float, AtLeast(0)] = 1.0
    """exclusive: relative weight of pasting a foreign object that covers part of the target."""
    mixing_weight: Annotated[float, AtLeast(0)] = 1.0
    """exclusive: relative weight of blending the two whole images."""
    min_left: Count = 20
    """A foreign object that leaves at most this many target pixels uncovered is refused."""
    max_partners: Positive = 5
    """Number of partners to try before the paste is skipped."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        lookup("copy-paste recipe", self.recipe, COPY_PASTE_RECIPES)
        weights = self.simple_weight, self.union_weight, self.exclusion_weight, self.mixing_weight
        if not any(weights):
            raise InputError(
                "copy_paste.simple_weight, union_weight, exclusion_weight, mixing_weight are "
                f"{weights}: expected numbers >= 0, not all 0"
            )


class Draws(Protocol):
    """The part of a random generator that recipes use: numpy's Generator has it, and a test may script one."""

    def random(self) -> float:
        """Draw from [0, 1)."""
        ...

    def integers(self, high: int, /) -> int:
        """Draw from 0..`high` - 1."""
        ...


DrawPartner = Callable[[], Sample]
Select = Callable[[Sample], Selection]


@dataclass(frozen=True, slots=True, eq=False)
class Pasted:
    """A sample after copy-paste, with the modes used and the ids of the partners whose pixels it shows."""

    sample: Sample
    modes: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()


def blend(a: np.ndarray, b: np.ndarray, alpha: float) -> np.ndarray:
    """Blend two images, the first with weight `alpha`, rounded half to even and clipped to 0..255."""
    return cv2.addWeighted(a, alpha, b, 1 - alpha, 0)


def _inside(mask: np.ndarray, image: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    return cv2.copyTo(image, mask.view(np.uint8), elsewhere.copy())


def simple(image: np.ndarray, target: np.ndarray, partner: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Blend the target object onto the partner's image; the target mask is unchanged."""
    return _inside(target, blend(image, partner, alpha), partner), target


def union(
    image: np.ndarray, target: np.ndarray, partner: np.ndarray, foreign: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paste the partner's `foreign` object and add it to the target."""
    return _inside(foreign, partner, image), target | foreign


def exclusion(
    image: np.ndarray, target: np.ndarray, partner: np.ndarray, foreign: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paste the partner's `foreign` object over the target, which loses the covered pixels."""
    return _inside(foreign, partner, image), target & ~foreign


def mixing(image: np.ndarray, target: np.ndarray, partner: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Blend the whole images; the target mask is unchanged."""
    return blend(image, partner, alpha), target


def distract(
    image: np.ndarray, target: np.ndarray, partner: np.ndarray, foreign: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blend in the partner's `foreign` object as a distraction; the target mask is unchanged.

    This mode is in CFR-ICL's public code but not in its paper.
    """
    return _inside(foreign, blend(image, partner, alpha), image), target


def _alpha(rng: Draws) -> float:
    return float(rng.random()) / 2 + 0.5


def _single(sample: Sample, image: np.ndarray, target: np.ndarray, foreign: np.ndarray | None = None) -> Sample:
    """Make the sample whose only object is `target`; pasted pixels are certain, so they are never ignored."""
    ignore = sample.ignore_mask if foreign is None else sample.ignore_mask & ~foreign
    return replace(
        sample,
        image=image,
        instance_masks=target[None].astype(np.uint16),
        objects=(ObjectRef(id="target", layer=0, value=1),),
        ignore_mask=ignore,
    )


def _paste_simple(pasted: Pasted, draw_partner: DrawPartner, select: Select, rng: Draws) -> Pasted:
    sample = pasted.sample
    if not sample.objects:
        return pasted
    partner = draw_partner()
    target = select(sample).target
    image, target = simple(sample.image, target, partner.image, _alpha(rng))
    # Everything around the object is known background, so only ignored pixels inside it stay ignored.
    return Pasted(_single(sample, image, target, ~target), (*pasted.modes, "simple"), (*pasted.partners, partner.id))


def _paste_foreign(
    pasted: Pasted,
    draw_partner: DrawPartner,
    select: Select,
    rng: Draws,
    config: CopyPasteConfig,
    choose: Callable[[], str],
) -> Pasted:
    """Paste by union, exclusion or distract, as `choose` returns once a partner with a fitting object is found."""
    sample = pasted.sample
    if not sample.objects:
        return pasted
    target = select(sample).target
    for _ in range(config.max_partners):
        partner = draw_partner()
        foreign = select(partner).target
        if not foreign.any() or np.count_nonzero(target & ~foreign) <= config.min_left:
            continue
        mode = choose()
        if mode == "distract":
            image, new_target = distract(sample.image, target, partner.image, foreign, _alpha(rng))
        else:
            paste = {"union": union, "exclusion": exclusion}[mode]
            image, new_target = paste(sample.image, target, partner.image, foreign)
        opaque = None if mode == "distract" else foreign
        made = _single(sample, image, new_target, opaque)
        return Pasted(made, (*pasted.modes, mode), (*pasted.partners, partner.id))
    return pasted


def _paste_mixing(pasted: Pasted, draw_partner: DrawPartner, rng: Draws) -> Pasted:
    partner = draw_partner()
    image = blend(pasted.sample.image, partner.image, _alpha(rng))
    sample = replace(pasted.sample, image=image)
    return Pasted(sample, (*pasted.modes, "mixing"), (*pasted.partners, partner.id))


def three_gates(
    sample: Sample, draw_partner: DrawPartner, select: Select, rng: Draws, config: CopyPasteConfig
) -> Pasted:
    """Pass a sample through three gates in turn, as CFR-ICL's public code does.

    Gate one is simple. Gate two applies exclusion, union or distract to its result, with equal probability. Gate three
    is mixing.
    """
    pasted = Pasted(sample)
    if rng.random() < config.prob:
        pasted = _paste_simple(pasted, draw_partner, select, rng)
    if rng.random() < config.prob:
        modes = "exclusion", "union", "distract"
        pasted = _paste_foreign(pasted, draw_partner, select, rng, config, lambda: modes[int(rng.integers(3))])
    if rng.random() < config.mix_prob:
        pasted = _paste_mixing(pasted, draw_partner, rng)
    return pasted


def exclusive(sample: Sample, draw_partner: DrawPartner, select: Select, rng: Draws, config: CopyPasteConfig) -> Pasted:
    """Apply one of the paper's four modes, or none (ours: the paper gives no probabilities)."""
    pasted = Pasted(sample)
    if rng.random() >= config.prob:
        return pasted
    weights = config.simple_weight, config.union_weight, config.exclusion_weight, config.mixing_weight
    limits = np.cumsum(weights) / sum(weights)
    drawn = int(np.searchsorted(limits, rng.random(), side="right"))
    mode = ("simple", "union", "exclusion", "mixing")[min(drawn, 3)]
    if mode == "simple":
        return _paste_simple(pasted, draw_partner, select, rng)
    if mode == "mixing":
        return _paste_mixing(pasted, draw_partner, rng)
    return _paste_foreign(pasted, draw_partner, select, rng, config, lambda: mode)


def none(sample: Sample, draw_partner: DrawPartner, select: Select, rng: Draws, config: CopyPasteConfig) -> Pasted:
    """Return the sample unchanged."""
    return Pasted(sample)


COPY_PASTE_RECIPES: dict[str, Callable[[Sample, DrawPartner, Select, Draws, CopyPasteConfig], Pasted]] = {
    "three_gates": three_gates,
    "exclusive": exclusive,
    "none": none,
}


SEVERAL = "several"
"""Stands for samples with more than one mode."""


def modes_of(config: CopyPasteConfig) -> tuple[str, ...]:
    """List the modes that samples may have: "none", the single modes, and SEVERAL if they can be combined."""
    if config.recipe == "none" or (config.prob == 0 and (config.recipe == "exclusive" or config.mix_prob == 0)):
        return ("none",)
    untouched = ("none",) if config.prob < 1 and (config.recipe == "exclusive" or config.mix_prob < 1) else ()
    if config.recipe == "exclusive":
        weights = {
            "simple": config.simple_weight,
            "union": config.union_weight,
            "exclusion": config.exclusion_weight,
            "mixing": config.mixing_weight,
        }
        return (*untouched, *(mode for mode, weight in weights.items() if weight > 0))
    gates = ("simple", "union", "exclusion", "distract") if config.prob else ()
    return (*untouched, *gates, *(("mixing",) if config.mix_prob else ()), *((SEVERAL,) if config.prob else ()))
