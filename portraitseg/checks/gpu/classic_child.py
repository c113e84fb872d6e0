"""The process that runs one file in mediapipe's ImageSegmenter on the GPU; it lives in an environment of its own.

`python classic_child.py MODEL IMAGES.npy RESULT.npz`; images are (n, h, w, 3 or 4) uint8. What TFLite says goes to
stderr. Imports nothing of this project: the environment holds mediapipe and numpy alone. Exit 3: mediapipe does not
start.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(arguments: list[str]) -> None:
    """Segments every image; writes the confidence masks, (1, h, w, channels), under the keys `run_0`."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except (ImportError, OSError) as error:
        print(f"no mediapipe: {error}", file=sys.stderr)
        sys.exit(3)

    model, images, result = arguments
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_buffer=Path(model).read_bytes(), delegate=BaseOptions.Delegate.GPU),
        output_confidence_masks=True,
        output_category_mask=False,
    )
    outputs: dict[str, Any] = {}
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        for run, pixels in enumerate(np.load(images, allow_pickle=False)):
            # files of three channels fail on four, and the other way round
            image_format = mediapipe.ImageFormat.SRGB if pixels.shape[2] == 3 else mediapipe.ImageFormat.SRGBA
            segmented = segmenter.segment(mediapipe.Image(image_format=image_format, data=pixels))
            # a mask is a view of memory that the segmenter uses again
            masks = [np.array(mask.numpy_view(), np.float32) for mask in segmented.confidence_masks]
            outputs[f"{run}_0"] = np.stack(masks, axis=-1)[None]
    np.savez(result, **outputs)


if __name__ == "__main__":
    main(sys.argv[1:])
