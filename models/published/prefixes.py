"""What wrappers put before the names of weights: stripped where all names have it, explained where some do not."""

from collections import Counter
from collections.abc import Callable, Collection

PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
"""What DataParallel, torch.compile and the modules that people train in put before every name."""
DEPTH = 3
"""Parts of a name that may be a prefix in `prefix_note`."""


def shared_prefix(names: Collection[str]) -> str:
    """What wrappers put before every name, in the order in which they were put on; "" if there is no such thing."""
    prefix = ""
    while part := next((part for part in PREFIXES if all(name.startswith(prefix + part) for name in names)), ""):
        prefix += part
    return prefix


def prefix_note(names: Collection[str], wanted: Collection[str], rename: Callable[[str], str] = str) -> str:
    """Say what stands before most of the names that a network wants, and which names lack it; "" if nothing does.

    `rename`: from the authors' names to ours.
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
        f"\n  the network's names stand behind {prefix!r} ({which}): save the state dict of that part alone, and "
        "without the prefix"
    )


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) + "." for end in range(1, min(DEPTH + 1, len(parts)))]
