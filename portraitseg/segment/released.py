"""The released networks by name: in a checkout `android_assets/`, in an installed package what came with it."""

import json
from pathlib import Path

from portraitseg.errors import InputError
from portraitseg.manifest import HANDOUT_NAME, MANIFEST_NAME, RECOMMENDED_NAME

#: Taken where nobody names another: an app may ship it.
DEFAULT = "selfie_general"

_PACKAGE = Path(__file__).resolve().parents[1]

#: Packaged files first: a wheel has no checkout around it, and `android_assets` beside it might be anybody's.
_FOLDERS = (_PACKAGE / "released_files", _PACKAGE.parent / "android_assets")


def names() -> list[str]:
    """The released networks that are here; `find` knows runs that were only exported, too."""
    packaged, assets = _FOLDERS
    runs = {path.parent.name for path in packaged.glob(f"*/{RECOMMENDED_NAME}")}
    # `export release` writes the handout, and an export takes it away
    exported = assets.glob(f"*/{RECOMMENDED_NAME}")
    return sorted(runs | {path.parent.name for path in exported if path.with_name(HANDOUT_NAME).is_file()})


def find(name: str) -> Path:
    """The file of a released network that is recommended for CPUs.

    Raises:
        InputError: no such network, or its folder is damaged.
    """
    for folder in _FOLDERS:
        index = folder / name / RECOMMENDED_NAME
        if not index.is_file():
            continue
        try:
            path = folder / name / Path(json.loads(index.read_text())["cpu"]).name
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{index}: damaged ({error}): install portraitseg again") from error
        if not path.is_file() or not (folder / name / MANIFEST_NAME).is_file():
            raise InputError(f"{path}: missing: install portraitseg again")
        return path
    known = ", ".join(names()) or "none are installed"
    raise InputError(f"model '{name}': neither a file nor a released network (those are: {known})")
