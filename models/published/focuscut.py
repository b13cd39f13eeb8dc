"""Published FocusCut files: state dicts without unused tensors, under our names (docs/PAPERS.md, FocusCut: network)."""

from models.published.family import Family

FOCUSCUT = Family(prefix="focuscut_resnet", licence="CC BY-NC 4.0", marks=("my_aspp.",), refinement="focuscut")
