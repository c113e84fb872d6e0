"""apps/ios: its grammar, by tree-sitter; no Swift compiler runs here, so types and behaviour are not proven.

`swift test` in apps/ios runs docs/vectors.json where there is a Swift compiler.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "apps/ios"
SOURCES = sorted([*PACKAGE.rglob("*.swift"), *ROOT.glob("ios_assets/*/swift/**/*.swift")])

#: What a Linux with Swift has.
PORTABLE = {"Foundation", "XCTest", "PackageDescription", "Portrait"}


@pytest.fixture(scope="module")
def parser() -> Any:
    reason = "grammar not checked: `pip install tree-sitter tree-sitter-swift` (group dev)"
    tree_sitter = pytest.importorskip("tree_sitter", reason=reason)
    swift = pytest.importorskip("tree_sitter_swift", reason=reason)
    return tree_sitter.Parser(tree_sitter.Language(swift.language()))


def faults(parser: Any, text: str) -> Iterator[int]:
    """Lines that are no Swift."""
    nodes = [parser.parse(text.encode()).root_node]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            yield node.start_point[0] + 1
        nodes += node.children


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_grammar(parser: Any, path: Path) -> None:
    assert not list(faults(parser, path.read_text(encoding="utf-8")))


def test_a_fault_of_grammar_is_found(parser: Any) -> None:
    text = (PACKAGE / "Sources/Portrait/MaskMath.swift").read_text(encoding="utf-8")
    for right, wrong in (("public enum", "public enm"), ("let t =", "let t =="), ("return t * t", "return t * * t")):
        assert right in text
        assert list(faults(parser, text.replace(right, wrong, 1))), wrong


def test_the_pure_half_imports_nothing_of_apples() -> None:
    """Whatever imports a framework stands behind `#if canImport(…)`, whole."""
    pure = 0
    for path in [*PACKAGE.glob("Sources/**/*.swift"), *PACKAGE.glob("Tests/**/*.swift")]:
        text = path.read_text(encoding="utf-8")
        imports = set(re.findall(r"^\s*(?:@testable )?import ([\w.]+)", text, re.MULTILINE))
        if imports <= PORTABLE:
            pure += 1
        else:
            assert text.startswith("#if canImport(") and text.endswith("#endif\n"), path
            assert text.count("#endif") == 1
    assert pure >= 6


def test_the_sample_builds_with_a_released_folders_sources_alone() -> None:
    """They lie in the app, not in a package: none is imported that may be missing, and what is called is in them."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("Sample/*.swift"))]
    for text in texts:
        whole = re.sub(r"#if canImport\(Portrait\)\nimport Portrait\n#endif", "", text)
        assert "import Portrait" not in whole
    released = "".join(
        path.read_text(encoding="utf-8") for path in ROOT.glob("ios_assets/selfie_general/swift/**/*.swift")
    )
    used = set(re.findall(r"\b(?:PortraitSegmenter|PortraitModel|Matte|MaskMath)\b", "".join(texts)))
    assert used == {"PortraitSegmenter", "PortraitModel", "Matte", "MaskMath"}
    assert all(re.search(rf"public (?:final )?(?:class|enum|struct) {name}\b", released) for name in used)
    for name in set(re.findall(r"\bsegmenter\??\.(\w+)\(", "".join(texts))):
        assert f"public func {name}(" in released
    for name in set(re.findall(r"\bmatte\.(\w+)", "".join(texts))):
        assert f"public let {name}:" in released


def test_orientation_is_never_optional() -> None:
    for path in PACKAGE.glob("Sources/**/*Segmenter.swift"):
        for parameter in re.findall(
            r"orientation: CGImagePropertyOrientation[^,)\n]*", path.read_text(encoding="utf-8")
        ):
            assert "=" not in parameter and "?" not in parameter, parameter
    assert ".scaleFill" in (PACKAGE / "Sources/Portrait/PortraitSegmenter.swift").read_text(encoding="utf-8")


@pytest.mark.full
def test_the_package_where_there_is_a_compiler() -> None:
    if shutil.which("swift") is None:
        pytest.skip("docs/vectors.json not run in Swift: no `swift` on this machine")
    subprocess.run(["swift", "test"], cwd=PACKAGE, check=True)
