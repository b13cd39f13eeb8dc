"""The plain step: one look at the whole image per click."""

from models.geometry import SizeRule, apply_size_rule, whole
from models.refinement.state import Look, State, Step
from models.steps import Steps


def standard(look: Look, size: SizeRule) -> Step:
    """Resize the image to `size`, run the network, resize the probabilities back (docs/PAPERS.md, RITM: inference)."""

    def step(state: State) -> Steps[State]:
        hw = apply_size_rule(size, state.hw)
        box = whole(state.hw)
        return state.answered((yield from look(state.view(box, hw))), box, hw)

    return step


def limit_longest_side(longest: int, hw: tuple[int, int]) -> SizeRule:
    """Return the size rule that shrinks an image whose longest side exceeds `longest`; others keep their size."""
    return longest if max(hw) > longest else None
