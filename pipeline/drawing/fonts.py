"""Names in any script on pictures: fonts of this machine that have the letters, and a key where there is none.

matplotlib brings a font for Latin, Greek, Cyrillic, Arabic and Hebrew. For other scripts (Chinese, Hindi...) those that
are installed are asked; what none of them has stands in the page as text, for which a browser finds a font.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

OWN = "DejaVu Sans"
LIKELY = ("noto", "cjk", "han", "wqy", "wenquan", "droid", "nanum", "unifont", "ipa", "takao", "freesans", "sans")
"""Parts of the names of fonts that hold many letters, or the plain ones of their kind: they are opened first."""
STYLED = ("bold", "italic", "oblique", "black", "light", "thin", "mono", "serif", "condensed")
MOST = 300
"""Fonts that are opened at most: some machines have thousands."""


def labels(names: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Names as figures can show them, and a key to the others: "(2)" in the figure, "(2) NAME" in the key."""
    shown = [name if drawn(name)[0] == name else f"({number})" for number, name in enumerate(names, start=1)]
    return shown, tuple(f"{label} {name}" for label, name in zip(shown, names, strict=True) if label != name)


@lru_cache(maxsize=10_000)
def drawn(text: str) -> tuple[str, tuple[str, ...]]:
    """A text with "?" for letters that no font has, and the families for matplotlib to draw it in."""
    missing, used = _letters_of(text) - letters(_own()), list[str]()
    fonts = installed() if missing else ()
    whole = next((path for path in fonts if missing <= letters(path)), None)
    for path in fonts if whole is None else (whole,):
        if missing & letters(path):
            used.append(path)
            missing -= letters(path)
    return _without(text, missing), (OWN, *(_family(path) for path in used))


def file_for(text: str) -> tuple[str, str]:
    """A text with "?" for letters that are not in one font, the best for it, and that font's file."""
    needed = _letters_of(text)
    fonts = (_own(), *installed()) if needed - letters(_own()) else (_own(),)
    best = max(fonts, key=lambda path: len(needed & letters(path)))
    return _without(text, needed - letters(best)), best


@lru_cache(maxsize=1)
def installed() -> tuple[str, ...]:
    """Files of this machine's fonts, those first that are likely to help."""
    from matplotlib.font_manager import findSystemFonts

    def likely(path: str) -> tuple[int, int, str]:
        name = Path(path).name.lower()
        return sum(part in name for part in STYLED), -sum(part in name for part in LIKELY), name

    return tuple(sorted(findSystemFonts(), key=likely)[:MOST])


@cache
def letters(path: str) -> frozenset[int]:
    """Letters that a font draws in outlines; none of one that is broken, or made of coloured pictures."""
    from matplotlib.ft2font import FaceFlags, FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    drawn = FaceFlags.SCALABLE in font.face_flags and FaceFlags.COLOR not in font.face_flags
    return frozenset(font.get_charmap()) if drawn else frozenset()


@cache
def _family(path: str) -> str:
    """Name by which matplotlib finds a font, made known to it: it may be newer than its list of them."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    if all(entry.fname != path for entry in fontManager.ttflist):
        fontManager.addfont(path)
    return FT2Font(path).family_name


@lru_cache(maxsize=1)
def _own() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _letters_of(text: str) -> set[int]:
    """What a text needs of a font: not ends of lines, nor what only steers other letters (joiners, variants)."""
    steering = {letter for letter in text if unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"}
    return {ord(letter) for letter in set(text) - steering - {"\n"}}


def _without(text: str, missing: set[int]) -> str:
    return "".join("?" if ord(letter) in missing else letter for letter in text)
