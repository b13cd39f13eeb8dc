"""Export any network to ONNX: split it into graphs, write them, and check them against torch in onnxruntime.

Graphs are exported with torch.export, not TorchScript. onnx and onnxruntime are imported only when they are used.
"""

import models.torchvision_ops  # noqa: F401  (before timm)
from models.export.graph import MIN_SIDE, Graph, Port, Sizes
from models.export.graphs import graphs
from models.export.verify import TOLERANCE, Check, check, disagree, milliseconds, open_session
from models.export.write import OPSET, write

__all__ = [
    "MIN_SIDE",
    "OPSET",
    "TOLERANCE",
    "Check",
    "Graph",
    "Port",
    "Sizes",
    "check",
    "disagree",
    "graphs",
    "milliseconds",
    "open_session",
    "write",
]
