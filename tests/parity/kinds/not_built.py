"""Fixtures of systems that the project does not build yet: known, hence skipped by name and not failed."""

from tests.parity.cases import Case, Deviations, Kind, whole_file
from tests.parity.samples import FIELDS


def _replay(case: Case) -> Deviations:
    raise AssertionError(f"{case.path}: nothing to replay")


def _waiting(name: str, stem: str, *fields: str) -> Kind:
    return Kind(stem=stem, fields=frozenset(fields), split=whole_file, replay=_replay, not_built=lambda case: name)


KINDS: dict[str, Kind] = {
    "focus_simulation": _waiting("the statistics of FocusCut's training views", r"alg1_.*", *FIELDS),
}
