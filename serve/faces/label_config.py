"""Label Studio's labelling configuration: XML from strangers, read for what an answer depends on."""

from dataclasses import dataclass
from xml.etree import ElementTree

from serve.core.problems import Problem

MAX_CHARACTERS = 1 << 20
OUTPUTS = ("brushlabels", "brush", "bitmasklabels", "bitmask", "polygonlabels", "polygon")
"""Tags that can take a mask, the preferred first. Tags are compared in lower case, as Label Studio does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A tag that makes regions: `kind` the tag, `to_names` the images it works on, `labels` those it offers."""

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
    """Variables of the tasks' data by image tag, and the tags that can take a mask."""

    images: dict[str, str]
    outputs: tuple[Control, ...]

    def output(self, image: str, label: str | None) -> tuple[Control, str | None]:
        """The tag that takes a mask of the object `label` on an image tag, and the label it will carry.

        Raises bad_request if there is none.
        """
        found = [control for control in self.outputs if image in control.to_names]
        if not found:
            raise _bad(f"no BrushLabels, BitmaskLabels or PolygonLabels tag works on the image {image[:60]!r}")
        # Labels from the task's data are not listed in the tag.
        fitting = [control for control in found if not control.labels or label in (None, *control.labels)]
        if not fitting:
            raise _bad(f"the tag {found[0].name[:60]!r} has no label {str(label)[:60]!r}")
        control = min(fitting, key=lambda control: OUTPUTS.index(control.kind))
        if not control.labelled:
            return control, None
        label = label or next(iter(control.labels), None)
        if label is None:
            raise _bad(f"the click carries no label and the tag {control.name[:60]!r} lists none")
        return control, label


def parse_config(text: str) -> LabelConfig:
    """Read a configuration; raises Problem bad_request."""
    # Entities, which could grow without bounds or name files, can only be declared in a document type.
    if len(text) > MAX_CHARACTERS or "<!DOCTYPE" in text:
        raise _bad(f"it holds more than {MAX_CHARACTERS} characters, or a document type")
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
    """Labels that the tag lists; regions carry the alias where there is one."""
    listed = (child for child in tag if child.tag.lower() == "label")
    return tuple(name for child in listed for name in (child.get("alias"), child.get("value")) if name)


def _bad(reason: str) -> Problem:
    return Problem("bad_request", f"the label_config cannot be used: {reason}"[:300], "/label_config")
