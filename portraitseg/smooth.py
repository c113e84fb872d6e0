"""Steadier masks of a video: the previous mask counts where the new one nearly agrees with it (numpy and OpenCV only).

An average over frames smears whatever moves. Where a person moved, old and new mask differ much, and the new one is
taken as it is; where they differ little, that is noise, and most of it is taken away. What counts is
the greatest difference around a pixel: beside what moves, all moves. So next to nothing lags, and no ghost of the old
outline stays (docs/segment.md has the figures).
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float32

Probability = Float32[np.ndarray, "h w"]


@dataclass
class MaskSmoother:
    """Smooths probabilities frame by frame, at the network's size; one for each video.

    Attributes:
        keep: weight of the previous mask where both agree, in [0, 1); 0 smooths nothing.
        low, high: difference of the probabilities up to which the whole weight is given, and from which on none.
        reach: how far around a pixel the greatest difference is looked for, in pixels of the network; 0: nowhere.
        cut: mean difference of two frames' masks above which the scene is another one, and smoothing begins anew.
        gap_s: seconds without a frame after which it does too.
    """

    keep: float = 0.9
    low: float = 0.1
    high: float = 0.5
    reach: int = 4
    cut: float = 0.2
    gap_s: float = 0.5
    _last: Probability | None = field(default=None, init=False, repr=False)
    _last_s: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        is_sound = 0 <= self.keep < 1 and 0 <= self.low < self.high and self.reach >= 0
        if not (is_sound and self.cut > 0 and self.gap_s > 0):
            raise ValueError(
                f"keep {self.keep}, low {self.low}, high {self.high}, reach {self.reach}, cut {self.cut}, gap_s "
                f"{self.gap_s}: need keep in [0, 1), low below high, reach from 0, cut and gap_s above 0"
            )

    def __call__(self, probability: Probability, time_s: float | None = None) -> Probability:
        """Smooths one frame.

        Args:
            probability: what the network said of it, in [0, 1].
            time_s: of the frame in the video, in seconds, where it is known: after a gap, or a jump back, smoothing
                begins anew.

        Returns:
            `new + (previous - new) · keep · (1 - step(d))`, d the greatest |new - previous| within `reach`, `step` the
            smooth step from `low` to `high`. The first frame as it is, and the first after a cut, a gap or
            a change of size.
        """
        last = self._last
        if last is None or last.shape != probability.shape or self._is_apart(time_s):
            smoothed = probability.copy()
        else:
            difference = last - probability
            distance = np.abs(difference)
            if distance.mean() > self.cut:
                smoothed = probability.copy()
            else:
                if self.reach:
                    side = 2 * self.reach + 1
                    distance = cv2.dilate(distance, np.ones((side, side), np.uint8))
                t = np.clip((distance - np.float32(self.low)) * np.float32(1 / (self.high - self.low)), 0, 1)
                weight = np.float32(self.keep) * (1 - t * t * (3 - 2 * t))
                smoothed = probability + difference * weight
        self._last, self._last_s = smoothed, time_s
        return smoothed.copy()

    def reset(self) -> None:
        """Forgets the previous frame: another video, another camera."""
        self._last = self._last_s = None

    def _is_apart(self, time_s: float | None) -> bool:
        if time_s is None or self._last_s is None:
            return False
        return not 0 <= time_s - self._last_s <= self.gap_s
