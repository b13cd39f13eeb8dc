"""Open an item, whatever is wrong with it: one bad file must not end a run of days, and must be named."""

from models.interaction import check_image
from pipeline.data.sample import BadItem, Item, Reader, Sample, printable


def load_or_refuse(reader: Reader, item: Item) -> tuple[Sample | None, tuple[str, ...]]:
    """Open an item; return its sample (None without a usable object) and all that was refused, as "id: reason"."""
    try:
        sample = reader.load(item)
        check_image(sample.image)
    except BadItem as error:
        return None, (str(error),)
    except Exception as error:  # a file that fails a decoder in a new way
        return None, (printable(f"{item.id}: {type(error).__name__}: {error}"),)
    hw = sample.image.shape[:2]
    if sample.instance_masks.shape[1:] != hw or sample.ignore_mask.shape != hw:
        given = f"{sample.instance_masks.shape[1:]} and {sample.ignore_mask.shape}"
        return None, (f"{item.id}: the masks have {given} pixels: expected the image's {hw}",)
    if not sample.objects:
        return None, (*sample.refused, f"{item.id}: no object in it can be used")
    return sample, sample.refused
