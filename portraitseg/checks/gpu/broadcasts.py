"""Two-operand operators of unequal shapes on the classic delegate: what its back ends compute right, and what not.

The delegate's own checks let nearly all of them through. What happens then was run over a grid of operators × shapes ×
orders (`tests/checks/gpu/grid.py`, tables in docs/gpu-check.md): OpenGL ES refuses most of them while it makes its
shaders, and computes the rest wrong without a word; WebGL2 computes other ones wrong; reports from phones (OpenCL:
tensorflow#60043, #61594) are of the same orders. A shape is taken where every back end was right.
"""

from portraitseg.checks.gpu.checks import Fault, sides
from portraitseg.tflite.graph import Graph, Op, Tensor

#: (height, width, channels), as the delegate sees a tensor.
Shape = tuple[int, int, int]

#: Operators whose operands may change places.
COMMUTATIVE = frozenset({"ADD", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"})

#: The layer of Keras that becomes an operator.
LAYERS = {"ADD": "Add", "MUL": "Multiply", "SUB": "Subtract", "MAXIMUM": "Maximum", "MINIMUM": "Minimum"}

_WIDEN = "UpSampling2D (nearest) for height and width, Concatenate()([y] * c) for channels"


def broadcast_computed_right(op: Op, graph: Graph) -> Fault | None:
    """Classic two-operand operators: unequal shapes that every back end of the delegate computes right."""
    del graph
    if len(op.inputs) != 2 or op.inputs[0] is None or op.inputs[1] is None:
        return None
    first, second = op.inputs[0], op.inputs[1]
    if first.is_constant or second.is_constant:
        return _constant_fault(op, first, second)
    one, other = _hwc(first), _hwc(second)
    # tensors of different rank have a rule of their own
    if one is None or other is None or first.rank != second.rank or is_taken(op.name, one, other):
        return None
    return _runtime_fault(op, first, second, one, other)


def is_taken(name: str, one: Shape, other: Shape) -> bool:
    """Whether every back end computes an operator of two run-time tensors right, in this order."""
    if one == other:
        return True
    if name == "ADD":
        return one[2] == other[2] and ((1, 1) in (one[:2], other[:2]))
    if name == "MUL":
        # the second operand is repeated, along channels too; of equal channels the delegate puts the larger first
        return _fits(other, one) or (one[2] == other[2] and _fits(one, other))
    return False


def _runtime_fault(op: Op, first: Tensor, second: Tensor, one: Shape, other: Shape) -> Fault:
    layer = LAYERS.get(op.name, op.name)
    reason = f"{sides(first.shape)} with {sides(second.shape)}: refused by OpenGL ES, or its numbers are wrong"
    if op.name in COMMUTATIVE and is_taken(op.name, other, one):
        return Fault(reason, f"name the larger tensor first: {layer}()([larger, smaller])")
    return Fault(reason, f"give both the same shape before {layer}: {_WIDEN}")


def _constant_fault(op: Op, first: Tensor, second: Tensor) -> Fault | None:
    constant, image = (first, second) if first.is_constant else (second, first)
    known, shape = _constant_hwc(constant), _hwc(image)
    if known is None or shape is None:
        return None
    layer = LAYERS.get(op.name, op.name)
    shapes = f"{sides(image.shape)} with a constant of {sides(constant.shape)}"
    if not _fits(known, shape):
        reason = f"{shapes}, which is larger: its numbers are wrong"
        return Fault(reason, f"give the tensor the constant's shape first ({_WIDEN})")
    is_vector = known[:2] == (1, 1)
    if is_vector or op.name == "ADD" or (op.name == "MUL" and known[:2] == shape[:2]):
        return None
    if op.name == "MUL":
        return Fault(f"{shapes}: its numbers are wrong", "store the constant with the tensor's own height and width")
    return Fault(
        f"{shapes}: OpenGL ES ends the process",
        f"{layer} with one number or one a channel; or write it with Add and Multiply, which take a whole map",
    )


def _fits(small: Shape, large: Shape) -> bool:
    """Whether each side is that of the larger one, or 1."""
    return all(side in (1, whole) for side, whole in zip(small, large, strict=True))


def _hwc(tensor: Tensor) -> Shape | None:
    """Tensors of rank 3 are rows of vectors: batch, width, channels (`ExtractTensorShape`)."""
    shape = tensor.shape
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    return (1, 1, shape[1]) if len(shape) == 2 else None


def _constant_hwc(tensor: Tensor) -> Shape | None:
    """Constants of rank 3 are height, width, channels."""
    if tensor.rank > 4 or (tensor.rank == 4 and tensor.shape[0] != 1):
        return None
    padded = (1, 1, 1, *tensor.shape)[-3:]
    return padded[0], padded[1], padded[2]
