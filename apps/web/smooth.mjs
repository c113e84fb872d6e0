// Steadier masks of a video: what portraitseg/smooth.py does, where it is explained.

import { dilate } from "./mask.mjs";

/** The previous mask counts where both nearly agree; one for each video, at the network's size. */
export class MaskSmoother {
  #last = null;
  #lastTime = null;

  constructor({ keep, low, high, reach, cut, gap_s }) {
    Object.assign(this, { keep, low, high, reach, cut, gapSeconds: gap_s });
  }

  /** Smooths one frame; begins anew after a cut, a gap, a jump back in time, or a change of size. */
  smooth(probability, time) {
    const { data, width, height } = probability;
    const last = this.#last;
    const out = data.slice();
    if (last && last.width === width && last.height === height && !this.#isApart(time)) this.#mix(last.data, out, width, height);
    this.#last = { data: out.slice(), width, height };
    this.#lastTime = time;
    return { data: out, width, height };
  }

  reset() {
    this.#last = this.#lastTime = null;
  }

  #mix(last, out, width, height) {
    let distance = new Float32Array(out.length);
    let sum = 0;
    for (let i = 0; i < out.length; i++) sum += distance[i] = Math.abs(last[i] - out[i]);
    if (sum / out.length > this.cut) return;
    if (this.reach) distance = dilate({ data: distance, width, height }, this.reach);
    const factor = 1 / (this.high - this.low);
    for (let i = 0; i < out.length; i++) {
      const t = Math.min(1, Math.max(0, (distance[i] - this.low) * factor));
      out[i] += (last[i] - out[i]) * this.keep * (1 - t * t * (3 - 2 * t));
    }
  }

  #isApart(time) {
    if (time === undefined || this.#lastTime === null || this.#lastTime === undefined) return false;
    const gap = time - this.#lastTime;
    return !(gap >= 0 && gap <= this.gapSeconds);
  }
}
