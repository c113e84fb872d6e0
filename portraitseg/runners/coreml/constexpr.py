"""Compressed weights back to dense ones: the MIL operators `constexpr_…`, by their names and parameters.

Source: `constexpr_ops` of iOS 16 and `compression` of iOS 18 in the MIL operator reference. The two generations share
names and differ in parameters: iOS 16 packs bits in bytes and states a shape, iOS 18 has types of less than 8 bits.
"""

from typing import Any

import numpy as np

from portraitseg.runners.coreml.values import unpack_bits

Array = np.ndarray
#: A tensor, or a scalar constant.
Operand = Any


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Operand, scale: Operand, axis: int) -> Array:
    """scale·(q - zero_point); scale and zero point are scalars or lie along `axis` (iOS 16)."""

    def spread(value: Operand) -> Array:
        array = np.asarray(value, np.float32)
        return array if array.ndim == 0 else np.expand_dims(array, [i for i in range(rank) if i != axis % rank])

    rank = quantized_data.ndim
    return spread(scale) * (quantized_data.astype(np.float32) - spread(zero_point))


def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale·(data - offset), each of them for a block of data (iOS 18)."""
    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - _repeat(offset, data.shape).astype(np.float32)
    return shifted * _repeat(scale, data.shape).astype(np.float32)


def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: int | None = None
) -> Array:
    """Palette entries by index.

    iOS 16: one palette (entries), indices packed in bytes, least significant bits first, and the shape. iOS 18: a
    palette per block of `indices` (…, entries, vector), whose vectors lie along `vector_axis` in the result.
    """
    if shape is not None:
        sides = [int(side) for side in shape]
        return lut[unpack_bits(indices, int(np.log2(lut.size)), int(np.prod(sides)))].reshape(sides)
    blocks, entries, length = lut.shape[:-2], lut.shape[-2], lut.shape[-1]
    if len(blocks) != indices.ndim:
        raise ValueError(f"palettes {lut.shape} for indices {indices.shape}")
    palettes = _repeat(lut.reshape(*blocks, entries * length), (*indices.shape, entries * length))
    palettes = palettes.reshape(*indices.shape, entries, length)
    vectors = np.take_along_axis(palettes, indices.astype(np.int64)[..., None, None], axis=-2)[..., 0, :]
    if length == 1:
        return vectors[..., 0]
    axis = int(vector_axis or 0) % indices.ndim
    merged = [side * length if i == axis else side for i, side in enumerate(indices.shape)]
    return np.moveaxis(vectors, -1, axis + 1).reshape(merged)


def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """Values where the mask has a bit, 0 elsewhere. iOS 16: mask packed in bytes; iOS 18: one bit per element."""
    if shape is not None:
        sides = [int(side) for side in shape]
        mask = unpack_bits(mask, 1, int(np.prod(sides))).reshape(sides)
    result = np.zeros(mask.shape, nonzero_data.dtype)
    result[mask != 0] = nonzero_data
    return result


def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    """float16 weights in a float32 program."""
    if output_dtype != "fp32":
        raise ValueError(f"output_dtype '{output_dtype}': only fp32 is known")
    return source_val


def _repeat(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Each element for its whole block of an array of `shape`."""
    for axis, side in enumerate(shape):
        if side % blocks.shape[axis]:
            raise ValueError(f"blocks {blocks.shape} do not divide {shape}")
        blocks = np.repeat(blocks, side // blocks.shape[axis], axis)
    return blocks
