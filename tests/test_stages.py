"""The layout that outsiders rely on: stages are ours, imports are light, README and make agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("stage", ["train", "export", "benchmark", "portraitseg"])
def test_a_stage_is_imported_from_here(stage):
    # a stray `benchmark` package elsewhere on the path would be run instead of ours
    module = __import__(stage)
    assert Path(module.__file__).parent == ROOT / stage


@pytest.mark.parametrize("stage", ["portraitseg", "train", "export", "benchmark"])
def test_help_needs_no_heavy_library(stage):
    code = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{stage}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'tf_keras', 'coremltools', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _targets():
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_command_of_the_docs_exists():
    documents = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*_assets/README.md"),
    ]
    for document in documents:
        named = set(re.findall(r"^make ([a-z]+(?:-[a-z]+)*)", "\n".join(_code(document.read_text())), re.MULTILINE))
        assert named <= _targets(), f"{document}: {named - _targets()}"


def _code(text):
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)


def test_the_makefile_declares_its_targets_phony():
    # train, export and benchmark are folders too: make would call them up to date
    phony = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    assert _targets() <= phony


def test_the_lock_has_hashes_and_no_addresses():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for block in re.split(r"\n(?=[a-z0-9])", lock.partition("\n")[2]):
        if "==" in block.splitlines()[0]:
            assert "--hash=sha256:" in block, block[:80]


def test_every_lock_is_resolved_by_make_lock():
    dry = subprocess.run(["make", "-n", "lock"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for source in [*ROOT.glob("*.in"), *(ROOT / "portraitseg").rglob("*.in")]:
        assert str(source.relative_to(ROOT).with_suffix("")) in dry, f"{source}: `make lock` leaves its lock as it is"
