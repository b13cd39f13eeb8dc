"""Open an item, whatever is wrong with it: one bad file must not end a run of days, and must be named."""

from models.interaction import check_image
from pipeline.data.sample import BadItem, Item, Reader, Sample, printable


def load_or_refuse(reader: Reader, item: Item) -> tuple[Sample | None, tuple[str, ...]]:
    """Open an item: the sample if it holds a usable object, and all that was refused of it, "id: reason" each."""
    try:
        sample = reader.load(item)
        check_image(sample.image)
    except BadItem as error:
        return None, (str(error),)
    except Exception as error:  # one that trips a decoder in a new way
        return None, (printable(f"{item.id}: {type(error).__name__}: {error}"),)
    hw = sample.image.shape[:2]
    if sample.instance_masks.shape[1:] != hw or sample.ignore_mask.shape != hw:
        given = f"{sample.instance_masks.shape[1:]} and {sample.ignore_mask.shape}"
        return None, (f"{item.id}: masks of {given} pixels, expected the image's {hw}",)
    if not sample.objects:
        return None, (*sample.refused, f"{item.id}: no object in it can be used")
    return sample, sample.refused
