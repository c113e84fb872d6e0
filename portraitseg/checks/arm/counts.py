"""Instructions of one inference: by class, by kernel and by operator of the file, with the bytes loaded and stored."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portraitseg.checks.arm.decode import CLASSES, classify, moved_bytes
from portraitseg.checks.arm.symbols import Symbols
from portraitseg.tflite.graph import Graph, Op, multiply_accumulates

#: XNNPACK calls it once for each of its operators: the border between two sections of a count.
BORDER = "xnn_run_operator_with_index"

#: Kernels below this share of the instructions are left out of the lists.
LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Section:
    """What ran between two borders: instructions by kernel and by class, and bytes."""

    kernels: Counter[str]
    classes: Counter[str]
    loaded: int
    stored: int

    @property
    def instructions(self) -> int:
        """All of them."""
        return sum(self.kernels.values())


@dataclass(frozen=True)
class OperatorCost:
    """One operator of the file, or of XNNPACK where the two do not match.

    Attributes:
        name: of the operator, such as `CONV_2D`; `around` is what the interpreter does before the first one.
        layer: it came from.
        macs: multiply-accumulates.
        kernel: that most of its instructions are in.
    """

    name: str
    layer: str
    macs: int
    instructions: int
    kernel: str
    loaded: int
    stored: int


@dataclass(frozen=True)
class Count:
    """One inference.

    Attributes:
        kernels: XNNPACK's micro-kernels and other functions with at least `LEAST_SHARE`, the largest first.
        is_matched: whether each operator of XNNPACK was found to be one of the file's.
    """

    instructions: int
    loaded: int
    stored: int
    classes: dict[str, int]
    kernels: dict[str, int]
    operators: tuple[OperatorCost, ...]
    is_matched: bool


def read_sections(path: Path, symbols: Symbols, start: int, stop: int) -> list[Section]:
    """What the plugin wrote, with names.

    Args:
        path: of the plugin's file.
        symbols: of the library.
        start, stop: where the library lay in memory.

    Raises:
        ValueError: a file that ends too early.
    """
    blocks: dict[str, tuple[str, Counter[str], int, int]] = {}
    sections: list[Section] = []
    lines = path.read_text().splitlines()
    if not lines or lines[-1] != "E":
        raise ValueError(f"{path.name}: the count broke off")
    kernels: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    moved = [0, 0]

    def close() -> None:
        sections.append(Section(Counter(kernels), Counter(classes), *moved))
        kernels.clear()
        classes.clear()
        moved[:] = [0, 0]

    for line in lines[1:]:
        parts = line.split()
        if parts[0] == "B":
            address, words = int(parts[2], 16), [int(word, 16) for word in parts[3:]]
            name = symbols.name(address - start) if start <= address < stop else None
            pairs = [moved_bytes(word) for word in words]
            mix = Counter(classify(word) for word in words)
            blocks[parts[1]] = name or "(outside)", mix, sum(p[0] for p in pairs), sum(p[1] for p in pairs)
        elif parts[0] in ("S", "E"):
            close()
        elif parts[0] != "M":
            name, mix, load, store = blocks[parts[0]]
            runs = int(parts[1])
            kernels[name] += runs * mix.total()
            for kind, number in mix.items():
                classes[kind] += runs * number
            moved[0] += runs * load
            moved[1] += runs * store
    return sections


def summarize(sections: Sequence[Section], graph: Graph) -> Count:
    """One inference, its sections matched with the operators of the file."""
    kernels: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    for section in sections:
        kernels.update(section.kernels)
        classes.update(section.classes)
    total = kernels.total()
    shown = {name: count for name, count in kernels.most_common() if count >= LEAST_SHARE * total}
    matched, is_matched = _match(sections[1:], graph)
    operators = [_cost("around", "", 0, sections[0])]
    for place, section in enumerate(sections[1:]):
        op = matched[place] if is_matched else None
        if op is None:
            operators.append(_cost(_kind(section), "", 0, section))
        else:
            operators.append(_cost(op.name, op.layer, multiply_accumulates(op), section))
    return Count(
        instructions=total,
        loaded=sum(section.loaded for section in sections),
        stored=sum(section.stored for section in sections),
        classes={name: classes[name] for name in CLASSES if classes[name]},
        kernels=shown,
        operators=tuple(operators),
        is_matched=is_matched,
    )


def _cost(name: str, layer: str, macs: int, section: Section) -> OperatorCost:
    kernel = _main_kernel(section)
    return OperatorCost(name, layer, macs, section.instructions, kernel, section.loaded, section.stored)


def _main_kernel(section: Section) -> str:
    """A micro-kernel where there is one: on tiny tensors what leads to it costs more than it does."""
    names = [name for name, _ in section.kernels.most_common()]
    return next((name for name in names if "_ukernel_" in name), names[0] if names else "")


def short_name(kernel: str) -> str:
    """A kernel's name without what all of them have."""
    return re.sub(r"_ukernel_", " ", kernel.removeprefix("xnn_"), count=1).replace("_ukernel", "")


#: Part of a micro-kernel's name → operators of a file that it runs.
_FITS = (
    ("dwconv", ("DEPTHWISE_CONV_2D",)),
    ("gemm", ("CONV_2D", "FULLY_CONNECTED", "Convolution2DTransposeBias", "TRANSPOSE_CONV")),
    ("subconv", ("Convolution2DTransposeBias", "TRANSPOSE_CONV")),
    ("spmm", ("CONV_2D",)),
    ("ibilinear", ("RESIZE_BILINEAR",)),
    ("vadd", ("ADD",)),
    ("vmul", ("MUL",)),
    ("vhswish", ("HARD_SWISH",)),
    ("sigmoid", ("LOGISTIC",)),
    ("lut", ("LOGISTIC", "TANH", "HARD_SWISH")),
    ("rsum", ("MEAN", "AVERAGE_POOL_2D", "SUM")),
    ("avgpool", ("AVERAGE_POOL_2D", "MEAN")),
    ("maxpool", ("MAX_POOL_2D",)),
    ("vcvt", ("QUANTIZE", "DEQUANTIZE")),
)


def _fitting(section: Section) -> tuple[str, ...]:
    name = _main_kernel(section)
    return next((operators for part, operators in _FITS if part in name), ())


def _kind(section: Section) -> str:
    """What a section does, where it matches no operator of the file: copies, most often (CONCATENATION, RESHAPE)."""
    name = _main_kernel(section)
    fitting = _fitting(section)
    return fitting[0] if fitting else "copy" if not name.startswith("xnn_") or "invoke" in name else short_name(name)


def _match(sections: Sequence[Section], graph: Graph) -> tuple[list[Op | None], bool]:
    """The file's operator of each section, in the order of both.

    XNNPACK runs the operators in the file's order; some of them in several sections (CONCATENATION: a copy an input),
    some in none (DEQUANTIZE of weights), and it may add its own.

    Returns:
        The operators, and whether each convolution of the file was found once and each section of one was matched.
    """
    ops = [op for op in graph.ops if op.runtime_inputs]
    found: list[Op | None] = []
    place = 0
    for section in sections:
        fitting = _fitting(section)
        step = next((n for n, op in enumerate(ops[place:]) if op.name in fitting), None)
        # an operator that XNNPACK added must not swallow convolutions of the file
        if step is not None and any(multiply_accumulates(op) for op in ops[place : place + step]):
            step = None
        found.append(None if step is None else ops[place + step])
        place += 0 if step is None else step + 1
    heavy = [op.index for op in ops if multiply_accumulates(op)]
    seen = [op.index for op in found if op is not None and multiply_accumulates(op)]
    return found, heavy == seen
