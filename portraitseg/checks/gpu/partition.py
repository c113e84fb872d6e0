"""How a delegate cuts a graph: which operators go to the GPU, and how much of the arithmetic that is."""

from collections.abc import Set
from dataclasses import dataclass

from portraitseg.tflite.graph import Graph, multiply_accumulates


@dataclass(frozen=True)
class Partition:
    """What runs where.

    Attributes:
        ops: all operators.
        delegated: indices of those on the GPU.
        macs: multiply-accumulates of all convolutions and matrix products, for one image.
        delegated_macs: those on the GPU.
    """

    ops: int
    delegated: tuple[int, ...]
    macs: int
    delegated_macs: int

    @property
    def fallback(self) -> tuple[int, ...]:
        """Indices of the operators that stay on the CPU."""
        on_gpu = set(self.delegated)
        return tuple(index for index in range(self.ops) if index not in on_gpu)


def cut(graph: Graph, supported: Set[int], constants: Set[int], most: int) -> Partition:
    """Chooses the operators that go to the GPU, as TFLite's FP16GraphPartitionHelper does.

    Args:
        graph: the graph as the delegate sees it.
        supported: indices of the operators that it takes.
        constants: indices of the DEQUANTIZE operators that only widen float16 weights. They go along when everything
            does; when anything stays on the CPU they stay too, and the delegate reads the float16 weights itself.
        most: how many separate parts the delegate takes, the longest first.
    """
    if len(supported | constants) == len(graph.ops):
        chosen = set(range(len(graph.ops)))
    else:
        parts = sorted(_parts(graph, supported - constants), key=len, reverse=True)
        chosen = {index for part in parts[:most] for index in part}
    macs = {op.index: multiply_accumulates(op) for op in graph.ops}
    return Partition(
        ops=len(graph.ops),
        delegated=tuple(sorted(chosen)),
        macs=sum(macs.values()),
        delegated_macs=sum(macs[index] for index in chosen),
    )


def _parts(graph: Graph, supported: Set[int]) -> list[list[int]]:
    """Groups of supported operators that run in one go.

    As in tflite/core/graph_info.cc, PartitionGraphIntoIndependentNodeSubsets: by turns everything of one kind
    (supported or not) that is ready, then everything of the other kind.
    """
    produced = {tensor.index for op in graph.ops for tensor in op.outputs}
    ready: set[int] = {tensor.index for tensor in graph.tensors if tensor.index not in produced}
    left = list(graph.ops)
    parts: list[list[int]] = []
    while left:
        kind, part = None, []
        for op in list(left):
            if any(tensor.index not in ready for tensor in op.inputs if tensor is not None):
                continue
            is_supported = op.index in supported
            if kind is None:
                kind = is_supported
            if is_supported == kind:
                part.append(op.index)
                ready.update(tensor.index for tensor in op.outputs)
                left.remove(op)
        if not part:
            # operators out of order or in a circle: no delegate would get that far
            break
        if kind:
            parts.append(part)
    return parts
