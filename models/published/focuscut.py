"""Published FocusCut files: bare state dicts, every tensor used, under the names that our network has."""

from models.published.family import Family

FOCUSCUT = Family(prefix="focuscut_resnet", licence="CC BY-NC 4.0", refinement="focuscut")
