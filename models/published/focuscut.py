"""Published FocusCut files: bare state dicts, all used, under our network's names (docs/PAPERS.md, FocusCut)."""

from models.published.family import Family

FOCUSCUT = Family(prefix="focuscut_resnet", licence="CC BY-NC 4.0", marks=("my_aspp.",), refinement="focuscut")
