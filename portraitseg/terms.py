"""Who may use what: the licence of each set and of weights, from where it is stated to every file that is made of them.

What allows commercial use is never guessed: a licence has to be one that is known to, by its name, or the user says so
with `data.use`. What forbids it is taken from any text that says so.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from portraitseg import files, manifest
from portraitseg.errors import InputError
from portraitseg.manifest import Derived, Record, Source, Use

#: Lies in a folder of photos (or of one of its sets) and says what binds them.
TERMS_NAME = "terms.json"

#: Longest text of a licence, and of a citation.
MAX_TEXT = 2000

_FORBIDS = re.compile(r"non-?commercial|\bnc\b|\bacademic\b|\bresearch\b|personal use|evaluation only", re.IGNORECASE)
_DOUBTS = re.compile(r"unknown|unclear|not stated|none stated|unsure|\?", re.IGNORECASE)
_ALLOWS = re.compile(
    r"\b(apache-2\.0|mit|bsd-[23]-clause|cc0(-1\.0)?|cc[ -]by([ -]sa)?[ -][234]\.0|odc-by-1\.0|pddl-1\.0|unlicense|"
    r"public domain)\b",
    re.IGNORECASE,
)

#: Weights of others, all Apache-2.0, by the SHA-256 of their files.
KNOWN_WEIGHTS = {
    "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c": "MediaPipe Selfie Segmentation (Google)",
    "a77d03f4659b9f6b6c1f5106947bf40e99d7655094b6527f214ea7d451106edd": "MediaPipe Selfie Segmentation (Google)",
}
KNOWN_LICENCE = "Apache-2.0"


class Terms(Record):
    """What binds a set of photos, or weights."""

    licence: str = "unknown"
    use: Use = "unknown"
    citation: str | None = None


def use_of(licence: str, stated: Use = "unknown") -> Use:
    """What a licence allows, by its text, each part between semicolons by itself; `said` counts where it is silent."""
    if _FORBIDS.search(licence):
        return "non-commercial"
    if stated != "unknown":
        return stated
    parts = licence.split(";")
    return "any" if all(_ALLOWS.search(part) and not _DOUBTS.search(part) for part in parts) else "unknown"


def read(folder: Path) -> Terms | None:
    """What `terms.json` in a folder says; None where there is none.

    Raises:
        InputError: unreadable, or of another form.
    """
    path = folder / TERMS_NAME
    if not path.is_file():
        return None
    try:
        return parse(path.read_bytes()[: 4 * MAX_TEXT])
    except OSError as error:
        raise InputError(f"{path}: {files.explain(error)}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "file"
        raise InputError(
            f'{path}: {where}: {fault["msg"]}: write {{"licence": "…", "use": "any|non-commercial|unknown", '
            '"citation": "…"}'
        ) from error


def parse(content: str | bytes) -> Terms:
    """Terms as JSON; raises `ValidationError` where they are of another form."""
    terms = Terms.model_validate_json(content)
    return terms.model_copy(update={"use": use_of(terms.licence, terms.use)})


def worst(uses: Iterable[Use]) -> Use:
    """The use that all of several allow."""
    distinct = set(uses)
    return "non-commercial" if "non-commercial" in distinct else "any" if distinct == {"any"} else "unknown"


def use_of_source(source: Source) -> Use:
    """What the weights of a run may be used for; of a manifest that was written before it said so, by its licences."""
    return worst(use for _, _, use in _parts(source))


def binding(source: Source) -> list[str]:
    """What does not allow commercial use, in words, each once: its name, its licence."""
    by_terms: dict[tuple[str, Use], list[str]] = {}
    for name, licence, use in _parts(source):
        if use != "any":
            by_terms.setdefault((licence, use), []).append(name)
    if not _parts(source):
        return ["nothing is known of it"]
    return [
        f"{_few(names)} ({licence}{'' if use == 'non-commercial' else ': not known to allow it'})"
        for (licence, use), names in by_terms.items()
    ]


def sentence(source: Source) -> str:
    """Under what the weights are, for a file's own licence field: the stamp first, then the licences.

    No stamp where a licence begins with those very words.
    """
    licences = sorted({licence for _, licence, _ in _parts(source)})
    if any(licence.lower().startswith("non-commercial") for licence in licences):
        return "; ".join(licences)
    stamp = {"any": "", "unknown": "commercial use not cleared; ", "non-commercial": "NON-COMMERCIAL USE ONLY; "}
    return stamp[use_of_source(source)] + "; ".join(licences)


def note(source: Source) -> str:
    """What an h5 carries along of where it is from: JSON, short whatever the number of sets."""
    by_terms: dict[tuple[str, Use], list[str]] = {}
    for name, licence, use in _parts(source):
        by_terms.setdefault((licence, use), []).append(name)
    return manifest.dump_list(
        Derived(kind="weights", name=_few(names), licence=licence[:MAX_TEXT], use=use)
        for (licence, use), names in by_terms.items()
    )


def _parts(source: Source) -> list[tuple[str, str, Use]]:
    """Name, licence and use of all that the weights learnt from or began with."""
    sets = [(item.set, item.licence, item.use or use_of(item.licence)) for item in source.data]
    return [*sets, *((item.name, item.licence, item.use) for item in source.derived_from)]


def _few(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
