"""Read the parts of Label Studio's labelling configuration, untrusted XML, that an answer depends on."""

from dataclasses import dataclass
from xml.etree import ElementTree

from serve.core.problems import Problem

MAX_CHARACTERS = 1 << 20
OUTPUTS = ("brushlabels", "brush", "bitmasklabels", "bitmask", "polygonlabels", "polygon")
"""Tags that can take a mask, in order of preference. Tags are compared in lower case, as in Label Studio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A tag that makes regions: `kind` is the tag, `to_names` are its images, `labels` the labels that it lists."""

    kind: str
    name: str
    to_names: tuple[str, ...]
    labels: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether its regions carry a label."""
        return self.kind.endswith("labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """The variable of each image tag in the tasks' data, and the tags that can take a mask."""

    images: dict[str, str]
    outputs: tuple[Control, ...]

    def output(self, image: str, label: str | None) -> tuple[Control, str | None]:
        """Return the tag for a mask of an object with `label` on an image tag, and the label of the region.

        Raises bad_request if there is none.
        """
        found = [control for control in self.outputs if image in control.to_names]
        if not found:
            raise _bad(f"no BrushLabels, BitmaskLabels or PolygonLabels tag has the image {image[:60]!r} as toName")
        # A tag without listed labels may take them from the task's data.
        fitting = [control for control in found if not control.labels or label in (None, *control.labels)]
        if not fitting:
            raise _bad(f"the tag {found[0].name[:60]!r} has no label {str(label)[:60]!r}")
        control = min(fitting, key=lambda control: OUTPUTS.index(control.kind))
        if not control.labelled:
            return control, None
        label = label or next(iter(control.labels), None)
        if label is None:
            raise _bad(f"the click has no label and the tag {control.name[:60]!r} lists none")
        return control, label


def parse_config(text: str) -> LabelConfig:
    """Read a configuration; raises Problem bad_request."""
    # Entities, which could expand without limit or read files, can only be declared in a document type.
    if len(text) > MAX_CHARACTERS or "<!DOCTYPE" in text:
        raise _bad(f"it has more than {MAX_CHARACTERS} characters, or a document type")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise _bad(f"it is not XML: {error}") from None
    images: dict[str, str] = {}
    outputs: list[Control] = []
    for tag in root.iter():
        kind, name = tag.tag.lower(), tag.get("name", "")
        if kind == "image" and tag.get("value", "").startswith("$"):
            images[name] = tag.get("value", "")[1:]
        elif kind in OUTPUTS:
            to_names = tuple(part.strip() for part in tag.get("toName", "").split(","))
            outputs.append(Control(kind=kind, name=name, to_names=to_names, labels=_labels(tag)))
    if not images:
        raise _bad('there is no Image tag with value="$..."')
    return LabelConfig(images=images, outputs=tuple(outputs))


def _labels(tag: ElementTree.Element) -> tuple[str, ...]:
    """Return the labels that a tag lists, with their aliases, which regions use if there are any."""
    listed = (child for child in tag if child.tag.lower() == "label")
    return tuple(name for child in listed for name in (child.get("alias"), child.get("value")) if name)


def _bad(reason: str) -> Problem:
    return Problem("bad_request", f"the label_config cannot be used: {reason}"[:300], "/label_config")
