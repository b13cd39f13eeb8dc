"""Find fonts for names in any script on pictures, and make a key for names that no installed font can draw.

Matplotlib includes a font for Latin, Greek, Cyrillic, Arabic and Hebrew. Other scripts (Chinese, Hindi...) need an
installed font. Names that no font can draw are written in the page as text, for which the browser finds a font.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

OWN = "DejaVu Sans"
LIKELY = ("noto", "cjk", "han", "wqy", "wenquan", "droid", "nanum", "unifont", "ipa", "takao", "freesans", "sans")
"""Parts of the names of fonts with many letters or a plain style; these are opened first."""
STYLED = ("bold", "italic", "oblique", "black", "light", "thin", "mono", "serif", "condensed")
MOST = 300
"""Most fonts to open; some machines have thousands."""


def labels(names: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return names as figures can show them, and a key to the others: "(2)" in the figure, "(2) NAME" in the key."""
    shown = [name if drawn(name)[0] == name else f"({number})" for number, name in enumerate(names, start=1)]
    return shown, tuple(f"{label} {name}" for label, name in zip(shown, names, strict=True) if label != name)


@lru_cache(maxsize=10_000)
def drawn(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text with "?" for letters that no font has, and the font families in which matplotlib can draw it."""
    missing, used = _letters_of(text) - letters(_own()), list[str]()
    fonts = installed() if missing else ()
    whole = next((path for path in fonts if missing <= letters(path)), None)
    for path in fonts if whole is None else (whole,):
        if missing & letters(path):
            used.append(path)
            missing -= letters(path)
    return _without(text, missing), (OWN, *(_family(path) for path in used))


def file_for(text: str) -> tuple[str, str]:
    """Choose the best single font for a text; returns the text with "?" for missing letters, and the font's file."""
    needed = _letters_of(text)
    fonts = (_own(), *installed()) if needed - letters(_own()) else (_own(),)
    best = max(fonts, key=lambda path: len(needed & letters(path)))
    return _without(text, needed - letters(best)), best


@lru_cache(maxsize=1)
def installed() -> tuple[str, ...]:
    """List the files of installed fonts, the most useful ones first."""
    from matplotlib.font_manager import findSystemFonts

    def likely(path: str) -> tuple[int, int, str]:
        name = Path(path).name.lower()
        return sum(part in name for part in STYLED), -sum(part in name for part in LIKELY), name

    return tuple(sorted(findSystemFonts(), key=likely)[:MOST])


@cache
def letters(path: str) -> frozenset[int]:
    """Return the letters that a font draws as outlines; none for a font that is broken or made of coloured pictures."""
    from matplotlib.ft2font import FaceFlags, FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    drawn = FaceFlags.SCALABLE in font.face_flags and FaceFlags.COLOR not in font.face_flags
    return frozenset(font.get_charmap()) if drawn else frozenset()


@cache
def _family(path: str) -> str:
    """Return a font's family name, and register the font if matplotlib's list is older than the font."""
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
    """Return the letters that a font needs for a text, without line ends and modifiers such as joiners and variants."""
    steering = {letter for letter in text if unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"}
    return {ord(letter) for letter in set(text) - steering - {"\n"}}


def _without(text: str, missing: set[int]) -> str:
    return "".join("?" if ord(letter) in missing else letter for letter in text)
