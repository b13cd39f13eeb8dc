"""The routes outside /v1: the protocols of labelling tools, one file each."""

from serve.faces.cvat import add_cvat
from serve.faces.label_studio import add_label_studio

FACES = (add_label_studio, add_cvat)
