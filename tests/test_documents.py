"""The documents: links lead somewhere, what is named exists, sentences are short."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*_assets/**/*.md"), ROOT / "weights/README.md"]

#: Words a sentence, on average: what can still be read in a hurry (a log is looked up, not read).
GREATEST_MEAN = 25
READ = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for path in ROOT.glob("docs/**/*.md") if "log" not in path.parts),
    ROOT / "weights/README.md",
]

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
#: A table, a heading, a picture, a marker.
_NO_PROSE = ("|", "#", "!", "<")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")


def test_links_lead_somewhere():
    broken = [f"{path.relative_to(ROOT)}: {link}" for path in DOCUMENTS for link in broken_links(path)]
    assert not broken, broken


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One\n\n```sh\n# two\n```\n\n## `c_d`: e, f's × g\n\n## One\n")
    sound = ["other.md#one", "other.md#one-1", "other.md#c_d-e-fs--g", "#here", "https://a.b/c#d"]
    broken = ["none.md", "other.md#two", "#one"]
    document = tmp_path / "document.md"
    document.write_text("# Here\n" + "\n".join(f"[x]({link})" for link in sound + broken))
    assert list(broken_links(document)) == broken


def test_no_file_names_a_document_that_is_not_here():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in tracked.split("\0") if name.endswith((".py", ".toml", ".md", "Makefile"))]
    missing = [f"{path.relative_to(ROOT)}: {name}" for path in paths if path.is_file() for name in absent(path)]
    assert not missing, missing


def test_an_absent_document_is_found(tmp_path):
    source = tmp_path / "source.py"
    # put together, so that this file itself names none
    here, missing = (
        ["docs/metrics.md", "README.md", "runs/a/results.md"],
        [f"{name}.md" for name in ("PAPER", "docs/no")],
    )
    source.write_text(f"# as {', '.join(here)} and ({'), ('.join(missing)}) say\n")
    assert list(absent(source)) == missing


def test_every_room_is_in_the_architecture():
    tracked = subprocess.run(["git", "ls-files", "*/__init__.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    rooms = {str(Path(name).parent) + "/" for name in tracked.stdout.split() if not name.startswith("tests/")}
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_/]+/)` \| \S", text, re.MULTILINE)
    assert sorted(listed) == sorted(rooms)
    # the files that a room's line names are there
    for room, line in re.findall(r"^\| `([a-z_/]+/)` \| (.*) \|$", text, re.MULTILINE):
        for name in re.findall(r"`(\w+\.(?:py|toml))`", line):
            assert (ROOT / room / name).is_file() or list((ROOT / room).glob(name)), f"{room}{name}"


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path):
    lengths = list(sentence_lengths(path.read_text(encoding="utf-8")))
    assert sum(lengths) <= GREATEST_MEAN * len(lengths), f"{sum(lengths) / len(lengths):.1f} words a sentence"


def test_words_of_a_sentence_are_counted():
    prose = "# A heading of words\n\nOne two three. Four\nfive six seven!\n\n- a b c\n- d e f g\n"
    text = f"{prose}\n| no | row |\n```\nno code at all\n```\n"
    assert list(sentence_lengths(text)) == [3, 4, 3, 4]


def broken_links(document: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", document.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        path = document.parent / name if name else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield link


def anchors(document: Path) -> Iterator[str]:
    """As GitHub makes them of headings; one that is there again gets a number."""
    seen = Counter[str]()
    for heading in re.findall(r"^#+ (.*)$", _FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1


def absent(path: Path) -> Iterator[str]:
    """Documents of ours that a file names, and that are not there: of docs/, or in capitals at the root."""
    for name in re.findall(r"(?<![\w/.])(?:docs/[\w/-]+|[A-Z]{4,})\.md\b", path.read_text(encoding="utf-8")):
        if not (ROOT / name).exists():
            yield name


def sentence_lengths(text: str) -> Iterator[int]:
    """Words of each sentence of the prose; a list item ends one, single words are none."""
    paragraphs = [""]
    for line in map(str.strip, _FENCED.sub("", text).split("\n")):
        if not line or line.startswith(_NO_PROSE):
            paragraphs.append("")
        elif _ITEM.match(line):
            paragraphs.append(_ITEM.sub("", line))
        else:
            paragraphs[-1] += f" {line}"
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.!?])\s", paragraph):
            if len(sentence.split()) > 2:
                yield len(sentence.split())
