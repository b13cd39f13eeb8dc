"""Make the samples of one window: the only path from items to training rows, in every process.

Every item of the window is decoded once. Each slot of the window gives exactly one row: if its item cannot be used,
another one of the window replaces it, and the row gives the reason.
"""

from collections.abc import Sequence

import numpy as np

from models.errors import InputError
from models.fingerprints import fingerprint
from pipeline.clicks.random_clicks import random_clicks
from pipeline.data.augment import augment
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import COPY_PASTE_RECIPES
from pipeline.data.exemplar_columns import exemplar_columns, select_kind
from pipeline.data.focus_patches import focus_columns
from pipeline.data.loading import load_or_refuse
from pipeline.data.objects import Selection, other_objects, select_object
from pipeline.data.rows import Row
from pipeline.data.sample import Item, Reader, Sample
from pipeline.data.sampling import Purpose, Window, rng_for

REASONS_SHOWN = 3


def augmented_by(sample: Sample, config: DataConfig, rng: np.random.Generator) -> Sample:
    """Augment a sample with the settings of a config whose `min_object_area` is a number."""
    return augment(
        sample,
        config.augment,
        config.crop_hw,
        rng,
        min_object_area=config.floor,
        keep_background_prob=config.keep_background_prob,
        min_piece_area=config.min_piece_area,
        max_object_share=config.max_object_share,
    )


class _Shared:
    """State shared by the slots of a window: its samples, and each sample as its slot has augmented it."""

    def __init__(self, config: DataConfig, window: Window, samples: Sequence[Sample | None]) -> None:
        self.config, self.window, self.samples = config, window, samples
        self.augmented: dict[int, Sample] = {}
        self.fingerprints: dict[str, int] = {}

    def rng(self, place: int, purpose: Purpose, *more: int) -> np.random.Generator:
        return rng_for(self.config.seed, self.window.epoch, self.window.first_index + place, purpose, *more)

    def sample_at(self, place: int) -> Sample:
        sample = self.samples[place]
        assert sample is not None, "only usable places are drawn"
        return sample

    def augmented_at(self, place: int) -> Sample:
        if place not in self.augmented:
            self.augmented[place] = augmented_by(self.sample_at(place), self.config, self.rng(place, Purpose.AUGMENT))
        return self.augmented[place]

    def photos(self, *samples: str) -> str:
        """Return the fingerprints of some of the window's samples, by their ids."""
        for sample in self.samples:
            if sample is not None and sample.id in samples and sample.id not in self.fingerprints:
                self.fingerprints[sample.id] = fingerprint(sample.image)
        return " ".join(f"{self.fingerprints[item]:016x}" for item in samples)


class _Slot:
    """One sample in the making: its place in the window, and its generators.

    It shows the image of `lead`, the first slot of its view.
    """

    def __init__(self, shared: _Shared, slot: int) -> None:
        self.shared, self.slot, self.config = shared, slot, shared.config
        self.index = shared.window.first_index + slot
        self.usable = [i for i, sample in enumerate(shared.samples) if sample is not None]
        self.num_partners = 0
        self.lead = lead_of(slot, self.config)
        replace_rng = shared.rng(self.lead, Purpose.REPLACE)
        self.place = self.lead if shared.samples[self.lead] is not None else int(replace_rng.choice(self.usable))

    def rng(self, purpose: Purpose, *more: int) -> np.random.Generator:
        return self.shared.rng(self.slot, purpose, *more)

    def own(self) -> Sample:
        if self.place == self.lead:
            return self.shared.augmented_at(self.lead)
        rng = self.shared.rng(self.lead, Purpose.AUGMENT)
        return augmented_by(self.shared.sample_at(self.place), self.config, rng)

    def draw_partner(self) -> Sample:
        """Draw another sample of the window (the slot's sample if it is alone), as its slot has augmented it."""
        rng = self.rng(Purpose.PARTNER, self.num_partners)
        self.num_partners += 1
        others = [i for i in self.usable if i != self.place] or [self.place]
        place = others[int(rng.integers(len(others)))]
        if self.config.fresh_partners or place == self.place:
            return augmented_by(self.shared.sample_at(place), self.config, rng)
        return self.shared.augmented_at(place)

    def row(self, refused: Sequence[str]) -> Row:
        clicks_config = self.config.clicks
        original, augmented = self.shared.sample_at(self.place), self.own()
        paste_rng = self.rng(Purpose.COPY_PASTE)

        def select(sample: Sample, rng: np.random.Generator = paste_rng) -> Selection:
            return select_object(sample, rng, clicks_config.merge_objects_prob, clicks_config.max_merged)

        paste = COPY_PASTE_RECIPES[self.config.copy_paste.recipe]
        pasted = paste(augmented, self.draw_partner, select, paste_rng, self.config.copy_paste)
        more: Row = {}
        if self.config.exemplar.enabled:
            chosen, example = select_kind(pasted.sample, self.rng(Purpose.OBJECT))
            more = exemplar_columns(pasted.sample, chosen.target, example, self.rng(Purpose.EXEMPLAR))
        else:
            chosen = select(pasted.sample, self.rng(Purpose.OBJECT))
        others = other_objects(pasted.sample, chosen.target)
        clicks = random_clicks(chosen.masks, others, self.rng(Purpose.CLICKS), clicks_config)
        if self.config.coarse:
            more["coarse"] = np.bool_(original.id.startswith(self.config.coarse))
        return {
            "index": np.int64(self.index),
            "window": np.int64(self.shared.window.number),
            "item": pasted.sample.id,
            "partner": "; ".join(pasted.partners),
            "mode": "+".join(pasted.modes),
            "refused": "; ".join(refused),
            "photos": self.shared.photos(original.id, *pasted.partners),
            "image": pasted.sample.image,
            "object_mask": chosen.target.astype(np.uint8),
            "ignore_mask": pasted.sample.ignore_mask.astype(np.uint8),
            "clicks_yx": clicks.yx,
            "clicks_valid": clicks.valid,
            "clicks_order": clicks.order,
            **more,
            **focus_columns(original, chosen.ids, self.rng(Purpose.FOCUS), self.config.focus, clicks_config.max_clicks),
        }


def lead_of(slot: int, config: DataConfig) -> int:
    """Return the first of the slots that show the same view."""
    return slot - slot % config.targets_per_view


def make_window(items: Sequence[Item], reader: Reader, config: DataConfig, window: Window) -> list[Row]:
    """Make one row per slot of the window, in the order of their indices.

    `items` is the reader's whole list. Raises InputError if no item of the window can be used.
    """
    # In the order of storage, not of the window: items of a chunk are read together.
    shown = window.item_numbers[:: config.targets_per_view]
    found = {number: load_or_refuse(reader, items[number]) for number in sorted(shown)}
    loaded: list[tuple[Sample | None, Sequence[str]]] = [
        found[number] if lead_of(place, config) == place else (None, ())
        for place, number in enumerate(window.item_numbers)
    ]
    samples = [sample for sample, _ in loaded]
    if all(sample is None for sample in samples):
        reasons = [reason for _, refused in loaded for reason in refused]
        raise InputError(
            f"none of the {len(shown)} items of window {window.number} can be used: expected at least one image with "
            f"an object; first reasons: {'; '.join(reasons[:REASONS_SHOWN])}"
        )
    shared = _Shared(config, window, samples)
    return [_Slot(shared, place).row(refused) for place, (_, refused) in enumerate(loaded)]
