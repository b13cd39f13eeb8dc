"""Fixtures of systems that the project does not build yet: known, hence skipped by name and not failed."""

from tests.parity.cases import Case, Deviations, Kind, whole_file


def _replay(case: Case) -> Deviations:
    raise AssertionError(f"{case.path}: nothing to replay")


def _waiting(name: str, stem: str, *fields: str) -> Kind:
    return Kind(stem=stem, fields=frozenset(fields), split=whole_file, replay=_replay, not_built=lambda case: name)


SAMPLES = ("model", "samples", "stats", "tolerance")
KINDS: dict[str, Kind] = {
    "focuscut_algorithms": _waiting("FocusCut", r"focuscut_toy_.*|alg[123]_.*|paste_back.*", *SAMPLES),
}
