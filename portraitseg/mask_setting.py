"""What `data.mask` says of the values in mask files, as a setting: parsed, and written."""

import re
from dataclasses import dataclass
from typing import Literal

#: What `data.mask` may be, for messages.
FORMS = "auto, binary, alpha, or person:<ids>,ignore:<ids> with ids as 15, 1+2, 1-8 or #c08080"

_TERM = re.compile(r"(person|ignore):(.+)")
_ID = re.compile(r"#[0-9a-f]{6}|\d{1,3}(?:-\d{1,3})?")


@dataclass(frozen=True)
class Meaning:
    """How the masks of a set are read.

    Attributes:
        kind: `binary`: brightness above 127 is person; `alpha`: that of the fourth channel; `ids`: the values are
            classes; `colours`: the colours are.
        person, ignore: classes (0..255, or 0xRRGGBB) that are person, and that nobody is to be judged by.
        seen: classes that the set is known to have, so that others are another kind of mask; None: the user has said
            what the values mean, and any other is background.
        is_strict: whether a binary mask must look like one; not where the user has said that it is.
        is_graded: whether the set's masks have values between 0 and 255, so that one of an unsure person may be dim.
        most_ignored: thickness of what is ignored on a background-only photo (see `thickness`) beyond which it is no
            outline that was left open, but a person of another kind of mask.
    """

    kind: Literal["binary", "alpha", "ids", "colours"] = "binary"
    person: frozenset[int] = frozenset()
    ignore: frozenset[int] = frozenset()
    seen: frozenset[int] | None = None
    is_strict: bool = True
    is_graded: bool = False
    most_ignored: float = 1.0

    @property
    def setting(self) -> str:
        """As `data.mask` writes it."""
        if self.kind in ("binary", "alpha"):
            return self.kind
        write = (lambda value: f"#{value:06x}") if self.kind == "colours" else str
        terms = {"person": self.person, "ignore": self.ignore}
        return ",".join(f"{name}:{'+'.join(map(write, sorted(ids)))}" for name, ids in terms.items() if ids)


BINARY = Meaning()


def parse_setting(text: str) -> Meaning | None:
    """What a `data.mask` says; None: `auto`.

    Raises:
        ValueError: not of the documented form.
    """
    if text == "auto":
        return None
    if text in ("binary", "alpha"):
        return Meaning(kind="alpha" if text == "alpha" else "binary", is_strict=False)
    ids: dict[str, set[int]] = {"person": set(), "ignore": set()}
    are_colours = set()
    for term in text.lower().split(","):
        match = _TERM.fullmatch(term.strip())
        parts = match[2].split("+") if match else []
        if not match or not all(_ID.fullmatch(part) for part in parts):
            raise ValueError(f"'{text}' is none of {FORMS}")
        for part in parts:
            are_colours.add(part.startswith("#"))
            first, _, last = part.partition("-")
            values = {int(part[1:], 16)} if part[0] == "#" else set(range(int(first), int(last or first) + 1))
            if not values or (part[0] != "#" and max(values) > 255):
                raise ValueError(f"'{part}' in '{text}' is no id of 0 to 255")
            ids[match[1]] |= values
    if not ids["person"]:
        raise ValueError(f"'{text}' names nothing as person: person:<ids>")
    if shared := ids["person"] & ids["ignore"]:
        raise ValueError(f"'{text}' has {min(shared)} as person and as ignored")
    if len(are_colours) > 1:
        raise ValueError(f"'{text}' mixes ids with colours")
    kind: Literal["ids", "colours"] = "colours" if are_colours == {True} else "ids"
    return Meaning(kind, frozenset(ids["person"]), frozenset(ids["ignore"]), is_strict=False)
