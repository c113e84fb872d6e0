"""The process that opens one file with mediapipe's ImageSegmenter; it lives in an environment of its own.

`python child.py MODEL IMAGES.npy RESULT.npz`; images are (n, h, w, 3 or 4) uint8. Imports nothing of this project: the
environment holds mediapipe and what it needs alone.
"""

import sys
from pathlib import Path

import numpy as np


def main(arguments: list[str]) -> None:
    """Segments every image; writes `confidence` (n, h, w, masks) float32 and `category` (n, h, w) uint8."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    model, images, result = arguments
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_buffer=Path(model).read_bytes()),
        output_confidence_masks=True,
        output_category_mask=True,
    )
    confidence, category = [], []
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        labels = segmenter.labels
        for pixels in np.load(images, allow_pickle=False):
            # files of three channels fail on four, and the other way round
            image_format = mediapipe.ImageFormat.SRGB if pixels.shape[2] == 3 else mediapipe.ImageFormat.SRGBA
            segmented = segmenter.segment(mediapipe.Image(image_format=image_format, data=pixels))
            # a mask is a view of memory that the segmenter uses again
            masks = [np.array(mask.numpy_view(), np.float32) for mask in segmented.confidence_masks]
            confidence.append(np.stack([mask.reshape(mask.shape[:2]) for mask in masks], axis=-1))
            category.append(np.array(segmented.category_mask.numpy_view()).reshape(pixels.shape[:2]))
    np.savez(result, confidence=np.stack(confidence), category=np.stack(category), labels=np.array(labels))


if __name__ == "__main__":
    main(sys.argv[1:])
