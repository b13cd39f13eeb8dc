"""Task: segment each object by itself, without an initial mask (SOIS): the protocol of the published NoC."""

from collections.abc import Iterator

from models.predictor import open_state
from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.method import Method
from pipeline.evaluation.tasks.game import Game, countable, played, rng_of


def single(
    sample: Sample, object_ids: tuple[str, ...], method: Method, config: EvaluationConfig
) -> Iterator[Game | str]:
    """Yield a session for each object of at least `config.min_area` pixels that count."""
    refs = {ref.id: ref for ref in sample.objects}
    state = open_state(sample.image, device=method.device)
    for object_id in object_ids:
        if object_id not in refs:
            continue
        mask = countable(sample, refs[object_id], config)
        if isinstance(mask, str):
            yield mask
            continue
        rng = rng_of(config.seed, sample.id, object_id)
        steps = played(state, mask, sample.ignore_mask, method, config, rng)
        yield Game(object=object_id, category=refs[object_id].category, steps=steps)
