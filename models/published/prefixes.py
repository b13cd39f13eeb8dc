"""Prefixes that wrappers add to the names of weights: stripped if all names have one, explained if only some do."""

from collections import Counter
from collections.abc import Callable, Collection

PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
"""Prefixes of DataParallel, torch.compile and common training modules."""
DEPTH = 3
"""Largest number of dotted parts in a prefix for `prefix_note`."""


def shared_prefix(names: Collection[str]) -> str:
    """Return the wrappers' prefix that all names share, outermost first; "" if there is none."""
    prefix = ""
    while part := next((part for part in PREFIXES if all(name.startswith(prefix + part) for name in names)), ""):
        prefix += part
    return prefix


def prefix_note(names: Collection[str], wanted: Collection[str], rename: Callable[[str], str] = str) -> str:
    """Explain an unknown prefix of most names that a network needs, and list the names without it; "" if there is none.

    `rename` maps the authors' names to ours.
    """
    known = set(wanted)
    found = Counter(
        prefix for name in names for prefix in _prefixes(name) if rename(name.removeprefix(prefix)) in known
    )
    prefix, count = found.most_common(1)[0] if found else ("", 0)
    if 2 * count <= len(known) or count <= len(known & set(map(rename, names))):
        return ""
    others = sorted(name for name in names if not name.startswith(prefix))
    shown = ", ".join(others[:5]) + (" and others" if len(others) > 5 else "")
    which = (
        f"{len(names) - len(others)} of {len(names)} names begin with it, but not {shown}" if others else "all have it"
    )
    return (
        f"\n  the network's names have the prefix {prefix!r} ({which}): save the state dict of that part alone, "
        "without the prefix"
    )


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) + "." for end in range(1, min(DEPTH + 1, len(parts)))]
