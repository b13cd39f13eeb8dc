"""Fixtures of systems that the project does not build yet: known, hence skipped by name and not failed."""

from tests.parity.cases import Case, Deviations, Kind, whole_file


def _replay(case: Case) -> Deviations:
    raise AssertionError(f"{case.path}: nothing to replay")


def _waiting(name: str, stem: str, *fields: str) -> Kind:
    return Kind(stem=stem, fields=frozenset(fields), split=whole_file, replay=_replay, not_built=lambda case: name)


SAMPLES = ("model", "samples", "stats", "tolerance")
KINDS: dict[str, Kind] = {
    "emc": _waiting("EMC-Click", r"emc_(?!.*_keys$).*", *SAMPLES),
    "emc_keys": _waiting("EMC-Click", r"emc_.*_keys", "config", "n_params", "keys"),
    "focuscut": _waiting("FocusCut", r"focuscut_(?!.*_keys$).*", *SAMPLES),
    "focuscut_keys": _waiting("FocusCut", r"focuscut_.*_keys", "config", "n_params", "keys"),
    "focuscut_algorithms": _waiting("FocusCut", r"alg[123]_.*|paste_back.*", *SAMPLES),
    "boundary_metrics": _waiting("BIoU and ASSD", r"biou_assd.*", *SAMPLES),
}
