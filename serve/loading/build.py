"""Build the predictor and the engine of this process from the options. No Ray."""

from typing import Any

from models.errors import InputError
from serve.core.options import Options
from serve.engine.engine import Engine, ModelNan
from serve.engine.forwards import measure
from serve.loading.model_source import resolve


def build_predictor(options: Options) -> Any:
    """Load the model in this process; raises InputError."""
    import torch

    from models.predictor import Predictor

    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    has_cuda = torch.cuda.is_available()
    if options.device == "cuda" and not has_cuda:
        raise InputError("device is cuda, but torch finds no GPU on this machine: use device auto or cpu")
    device = "cuda" if has_cuda and options.device != "cpu" and options.backend == "torch" else "cpu"
    folder = resolve(options.place, options.tracking_uri)
    predictor = Predictor(
        folder, refinement=options.refinement, device=device, precision=options.precision, backend=options.backend
    )
    measure(predictor)
    return predictor


def build_engine(options: Options, predictor: Any = None, *, alone: bool = True) -> Engine:
    """Make an engine of `predictor` (None: load one) and run a first click; raises InputError."""
    from models.refinement import REFINEMENTS

    predictor = build_predictor(options) if predictor is None else predictor
    names = [name for name, refinement in REFINEMENTS.items() if refinement == predictor.refinement]
    engine = Engine(predictor, names[0] if names else options.refinement or "as the checkpoint says", alone=alone)
    try:
        engine.warm_up()
    except ModelNan as error:
        raise InputError(f"the network of {options.place} produces values that are not numbers: {error}") from error
    return engine
