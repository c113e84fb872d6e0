"""`python -m tests.golden.write`: writes anew the committed files that the code generates."""

import json
import tempfile
from pathlib import Path

from export.publishing import golden
from portraitseg import files, identity, manifest
from portraitseg.config import Config
from portraitseg.manifest import Manifest
from tests.data import bad_cases
from tests.golden import commands, vectors

ROOT = Path(__file__).parents[2]

#: The folders of released files, with golden vectors.
RELEASED = sorted(path.parent for kind in ("android", "ios") for path in ROOT.glob(f"{kind}_assets/*/golden"))

SCHEMA = ROOT / "docs/manifest.schema.json"
BAD_INPUT = ROOT / "docs/bad-input.md"
COMMANDS = ROOT / "docs/commands.md"
DEFAULTS = ROOT / "tests/golden/defaults.json"
VECTORS = ROOT / "docs/vectors.json"


def bad_input() -> str:
    """The table of docs/bad-input.md, from running every case."""
    outcomes = []
    for case in bad_cases.CASES:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append((case, bad_cases.run_case(case, Path(folder))))
    return bad_cases.table(outcomes)


def defaults() -> str:
    """The defaults by key and the scheme of identities that they go with."""
    values = {"scheme": identity.SCHEME, "defaults": identity._flat(Config())}
    return json.dumps(values, indent=1) + "\n"


def main() -> None:
    """Writes them."""
    generated = {
        DEFAULTS: defaults(),
        COMMANDS: commands.document(),
        SCHEMA: manifest.schema(),
        VECTORS: vectors.text(),
        BAD_INPUT: bad_input(),
    }
    for path, content in generated.items():
        files.write_text(path, content)
        print(f"{path.relative_to(ROOT)} written")
    for folder in RELEASED:
        with files.revising(folder) as revised:
            assert golden.write(revised, manifest.read(Manifest, revised / manifest.MANIFEST_NAME)), folder
        print(f"{folder.relative_to(ROOT)}/golden written")


if __name__ == "__main__":
    main()
