// Pixels to tensors, and probabilities to masks: what portraitseg/contract.py, refine.py and smooth.py do, number for
// number (docs/vectors.json holds both to each other). No browser is needed: node runs it.
//
// A picture is {data, width, height} with RGBA bytes, as ImageData; a plane is {data, width, height} with floats.

const round = Math.fround;

/** Exactly one half is background. */
export const THRESHOLD = 0.5;

/** How far the soft seam of a speck or a hole reaches at the photo's size, in pixels. */
const SEAM_PX = 3;

/** Round half to even, as OpenCV's cvRound does. */
function roundEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** Stretches a picture: OpenCV's INTER_AREA when both sides shrink, else its INTER_LINEAR. Alpha becomes 255. */
export function resizeImage(image, height, width) {
  if (image.height === height && image.width === width) return image;
  const shrinks = height < image.height && width < image.width;
  const data = new Uint8ClampedArray(height * width * 4).fill(255);
  if (shrinks) shrinkArea(image, height, width, data);
  else stretchLinear(image, height, width, data);
  return { data, width, height };
}

function shrinkArea({ data: source, width: w, height: h }, height, width, out) {
  const scaleX = 1 / (width / w);
  const scaleY = 1 / (height / h);
  const [stepX, stepY] = [Math.round(scaleX), Math.round(scaleY)];
  if (Math.abs(scaleX - stepX) < Number.EPSILON && Math.abs(scaleY - stepY) < Number.EPSILON) {
    shrinkWhole(source, w, height, width, stepX, stepY, out);
    return;
  }
  const columns = areaTable(w, width, scaleX);
  const rows = areaTable(h, height, scaleY);
  const sum = new Float32Array(width * 3);
  const line = new Float32Array(width * 3);
  for (let k = 0; k < rows.count; k++) {
    line.fill(0);
    const start = rows.source[k] * w * 4;
    for (let j = 0; j < columns.count; j++) {
      const from = start + columns.source[j] * 4;
      const to = columns.target[j] * 3;
      const weight = columns.weight[j];
      line[to] = line[to] + round(source[from] * weight);
      line[to + 1] = line[to + 1] + round(source[from + 1] * weight);
      line[to + 2] = line[to + 2] + round(source[from + 2] * weight);
    }
    const weight = rows.weight[k];
    const isFirst = k === 0 || rows.target[k - 1] !== rows.target[k];
    for (let i = 0; i < sum.length; i++) sum[i] = isFirst ? weight * line[i] : sum[i] + round(weight * line[i]);
    if (k + 1 === rows.count || rows.target[k + 1] !== rows.target[k]) {
      let to = rows.target[k] * width * 4;
      for (let i = 0; i < sum.length; i += 3, to += 4) {
        for (let c = 0; c < 3; c++) out[to + c] = roundEven(sum[i + c]);
      }
    }
  }
}

/** Both sides shrink by whole factors: OpenCV sums integers then. */
function shrinkWhole(source, w, height, width, stepX, stepY, out) {
  const factor = round(1 / (stepX * stepY));
  const isHalf = stepX === 2 && stepY === 2;
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 4) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let j = 0; j < stepY; j++) {
          let from = ((y * stepY + j) * w + x * stepX) * 4 + c;
          for (let i = 0; i < stepX; i++, from += 4) sum += source[from];
        }
        out[to + c] = isHalf ? (sum + 2) >> 2 : roundEven(round(sum * factor));
      }
    }
  }
}

/** Which source pixels make which target pixels, with what weight: OpenCV's computeResizeAreaTab. */
function areaTable(sourceSize, size, scale) {
  const most = sourceSize + 2 * size;
  const table = { source: new Int32Array(most), target: new Int32Array(most), weight: new Float32Array(most), count: 0 };
  const add = (source, target, weight) => {
    table.source[table.count] = source;
    table.target[table.count] = target;
    table.weight[table.count++] = weight;
  };
  for (let d = 0; d < size; d++) {
    const first = d * scale;
    const last = first + scale;
    const cell = Math.min(scale, sourceSize - first);
    const stop = Math.min(Math.floor(last), sourceSize - 1);
    const start = Math.min(Math.ceil(first), stop);
    if (start - first > 1e-3) add(start - 1, d, (start - first) / cell);
    for (let s = start; s < stop; s++) add(s, d, 1 / cell);
    if (last - stop > 1e-3) add(stop, d, Math.min(Math.min(last - stop, 1), cell) / cell);
  }
  return table;
}

/** The two neighbours of each target pixel and the second one's weight; centres on centres, edges repeated. */
function linearTable(sourceSize, size) {
  const scale = 1 / (size / sourceSize);
  const table = { first: new Int32Array(size), second: new Int32Array(size), weight: new Float32Array(size) };
  for (let d = 0; d < size; d++) {
    const place = round((d + 0.5) * scale - 0.5);
    const floor = Math.floor(place);
    table.first[d] = Math.min(Math.max(floor, 0), sourceSize - 1);
    table.second[d] = Math.min(Math.max(floor + 1, 0), sourceSize - 1);
    table.weight[d] = place - floor;
  }
  return table;
}

/** Bytes in OpenCV's fixed point: weights of 11 bits, rows cut to 4 bits less before they are mixed. */
function stretchLinear({ data: source, width: w, height: h }, height, width, out) {
  const columns = linearTable(w, width);
  const rows = linearTable(h, height);
  const fixed = (weight) => [roundEven(round(round(1 - weight) * 2048)), roundEven(round(weight * 2048))];
  const line = (row, x, c) => {
    const [left, right] = fixed(columns.weight[x]);
    return source[(row * w + columns.first[x]) * 4 + c] * left + source[(row * w + columns.second[x]) * 4 + c] * right;
  };
  for (let y = 0, to = 0; y < height; y++) {
    const [upper, lower] = fixed(rows.weight[y]);
    for (let x = 0; x < width; x++, to += 4) {
      for (let c = 0; c < 3; c++) {
        const above = (upper * (line(rows.first[y], x, c) >> 4)) >> 16;
        const below = (lower * (line(rows.second[y], x, c) >> 4)) >> 16;
        out[to + c] = (above + below + 2) >> 2;
      }
    }
  }
}

/** A picture of the network's size → what it eats: bytes / 255, RGB or RGBA, rows then columns then channels. */
export function imageToInputs({ data }, channels = 3) {
  const values = new Float32Array((data.length / 4) * channels);
  for (let from = 0, to = 0; from < data.length; from += 4, to += channels) {
    for (let c = 0; c < channels; c++) values[to + c] = (c === 3 ? 255 : data[from + c]) / 255;
  }
  return values;
}

/** Stretches floats bilinearly. */
function stretchPlane(values, w, h, height, width, stride = 1, offset = 0) {
  const columns = linearTable(w, width);
  const rows = linearTable(h, height);
  const out = new Float32Array(height * width);
  const upper = new Float32Array(width);
  const lower = new Float32Array(width);
  const fill = (line, row) => {
    for (let x = 0; x < width; x++) {
      const weight = columns.weight[x];
      const left = values[(row * w + columns.first[x]) * stride + offset];
      const right = values[(row * w + columns.second[x]) * stride + offset];
      line[x] = round(left * round(1 - weight)) + round(right * weight);
    }
  };
  let last = -1;
  for (let y = 0, to = 0; y < height; y++) {
    if (rows.first[y] !== last || y === 0) {
      fill(upper, rows.first[y]);
      fill(lower, rows.second[y]);
      last = rows.first[y];
    } else if (y > 0 && rows.second[y] !== rows.second[y - 1]) fill(lower, rows.second[y]);
    const weight = rows.weight[y];
    const rest = round(1 - weight);
    for (let x = 0; x < width; x++, to++) out[to] = round(upper[x] * rest) + round(lower[x] * weight);
  }
  return out;
}

/** Probability at the network's size → alpha in [0, 1] at (height, width), not refined. */
export function probabilityToAlpha({ data, width: w, height: h }, height, width) {
  const alpha = w === width && h === height ? data.slice() : stretchPlane(data, w, h, height, width);
  for (let i = 0; i < alpha.length; i++) alpha[i] = Math.min(1, Math.max(0, alpha[i]));
  return { data: alpha, width, height };
}

/** Probability or alpha → the nearest of 0..255; what lies halfway goes to the lower one, so that a half is 127. */
export function toByte(value) {
  return Math.ceil(round(round(Math.min(1, Math.max(0, value)) * 255) - 0.5));
}

/** Alpha → bytes, 255 is person. */
export function alphaToBytes({ data }) {
  return Uint8ClampedArray.from(data, toByte);
}

/** Of a quantized output: bytes → probabilities. */
export function dequantize(bytes, scale, zeroPoint) {
  return Float32Array.from(bytes, (byte) => (byte - zeroPoint) * scale);
}

// ---- edge refinement: portraitseg/refine.py ----

/** [height, width] of the coefficients: the network's size, its longer side shrunk to `side`. */
export function guideSize(height, width, side) {
  const factor = Math.min(1, side / Math.max(height, width));
  return [Math.max(1, roundEven(height * factor)), Math.max(1, roundEven(width * factor))];
}

/**
 * The mask as a linear function of the colours around each pixel: the fast guided filter.
 *
 * @param image the picture at the network's size
 * @param probability of person, a plane of that size
 * @param settings {side, radius, epsilon, specks}
 * @returns {data, width, height}: four floats a pixel, of red, green and blue in [0, 1], and the rest
 */
export function coefficients(image, probability, { side, radius, epsilon, specks = 0 }) {
  const [height, width] = guideSize(probability.height, probability.width, side);
  const small = resizeImage(image, height, width).data;
  const target = shrinkPlane(probability, height, width);
  const count = height * width;
  const planes = Array.from({ length: 13 }, () => new Float64Array(count));
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [round(small[i * 4] / 255), round(small[i * 4 + 1] / 255), round(small[i * 4 + 2] / 255)];
    const t = target[i];
    [r, g, b, t, r * t, g * t, b * t, r * r, r * g, r * b, g * g, g * b, b * b].forEach((v, k) => (planes[k][i] = v));
  }
  for (const plane of planes) box(plane, height, width, radius);
  const found = Array.from({ length: 4 }, () => new Float64Array(count));
  for (let i = 0; i < count; i++) solve(planes, i, epsilon, found);
  for (const plane of found) box(plane, height, width, radius);
  const data = new Float32Array(count * 4);
  for (let i = 0; i < count; i++) for (let k = 0; k < 4; k++) data[i * 4 + k] = found[k][i];
  if (specks > 0) clearSpecks(data, small, height, width, specks, radius);
  return { data, width, height };
}

/** (variance + epsilon · 1)⁻¹ · covariance by the adjugate of the symmetric 3×3, and the constant. */
function solve(planes, i, epsilon, found) {
  const [mr, mg, mb, mt] = [planes[0][i], planes[1][i], planes[2][i], planes[3][i]];
  const [x, y, z] = [planes[4][i] - mr * mt, planes[5][i] - mg * mt, planes[6][i] - mb * mt];
  const rr = planes[7][i] - mr * mr + epsilon;
  const rg = planes[8][i] - mr * mg;
  const rb = planes[9][i] - mr * mb;
  const gg = planes[10][i] - mg * mg + epsilon;
  const gb = planes[11][i] - mg * mb;
  const bb = planes[12][i] - mb * mb + epsilon;
  const [c00, c01, c02] = [gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg];
  const [c11, c12, c22] = [rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg];
  const determinant = rr * c00 + rg * c01 + rb * c02;
  const r = (c00 * x + c01 * y + c02 * z) / determinant;
  const g = (c01 * x + c11 * y + c12 * z) / determinant;
  const b = (c02 * x + c12 * y + c22 * z) / determinant;
  found[0][i] = r;
  found[1][i] = g;
  found[2][i] = b;
  found[3][i] = mt - r * mr - g * mg - b * mb;
}

function shrinkPlane({ data, width: w, height: h }, height, width) {
  if (w === width && h === height) return data;
  if (!(height < h && width < w)) return stretchPlane(data, w, h, height, width);
  const columns = areaTable(w, width, 1 / (width / w));
  const rows = areaTable(h, height, 1 / (height / h));
  const out = new Float32Array(height * width);
  for (let k = 0; k < rows.count; k++) {
    for (let j = 0; j < columns.count; j++) {
      out[rows.target[k] * width + columns.target[j]] +=
        data[rows.source[k] * w + columns.source[j]] * columns.weight[j] * rows.weight[k];
    }
  }
  return out;
}

/** Mean over windows of (2 radius + 1)², in place; beyond the edge its pixels are repeated. */
function box(plane, height, width, radius) {
  boxLines(plane, height, width, width, 1, radius);
  boxLines(plane, width, height, 1, width, radius);
}

function boxLines(plane, lines, length, lineStep, step, radius) {
  const line = new Float64Array(length);
  const at = (i) => line[i < 0 ? 0 : i >= length ? length - 1 : i];
  const share = 1 / (2 * radius + 1);
  for (let k = 0; k < lines; k++) {
    const start = k * lineStep;
    for (let i = 0; i < length; i++) line[i] = plane[start + i * step];
    let sum = 0;
    for (let i = -radius; i <= radius; i++) sum += at(i);
    for (let i = 0; i < length; i++) {
      plane[start + i * step] = sum * share;
      sum += at(i + radius + 1) - at(i - radius);
    }
  }
}

function clearSpecks(data, colours, height, width, share, radius) {
  const mask = new Uint8Array(height * width);
  for (let i = 0; i < mask.length; i++) {
    const k = i * 4;
    const alpha = (data[k] * colours[k] + data[k + 1] * colours[k + 1] + data[k + 2] * colours[k + 2]) / 255 + data[k + 3];
    mask[i] = alpha > THRESHOLD ? 1 : 0;
  }
  const small = smallPieces(mask, height, width, share, true);
  if (!small.includes(1)) return;
  const kept = mask.map((value, i) => value & ~small[i]);
  const seam = dilate({ data: small, width, height }, radius);
  const own = dilate({ data: kept, width, height }, 1);
  for (let i = 0; i < mask.length; i++) if (seam[i] && !own[i]) data.fill(0, i * 4, i * 4 + 4);
}

/** Coefficients and the picture at its own size → alpha in [0, 1]; what shader.mjs does in one line. */
export function apply({ data, width: w, height: h }, image) {
  const { width, height } = image;
  const alpha = stretchPlane(data, w, h, height, width, 4, 3);
  for (let c = 0; c < 3; c++) {
    const plane = stretchPlane(data, w, h, height, width, 4, c);
    for (let i = 0; i < alpha.length; i++) alpha[i] = alpha[i] + round((plane[i] * image.data[i * 4 + c]) / 255);
  }
  for (let i = 0; i < alpha.length; i++) alpha[i] = Math.min(1, Math.max(0, alpha[i]));
  return { data: alpha, width, height };
}

/** Clears haze, in place: 0 below `low`, 1 above `high`, a smooth step in between; one half stays. */
export function shape(alpha, low, high) {
  if (low <= 0 && high >= 1) return alpha;
  const { data } = alpha;
  const [from, factor] = [round(low), round(1 / (high - low))];
  for (let i = 0; i < data.length; i++) {
    const t = round(Math.min(1, Math.max(0, round(round(data[i] - from) * factor))));
    data[i] = round(t * t) * round(3 - round(2 * t));
  }
  return alpha;
}

/** Takes away pieces of person, and holes, that are smaller than a share of the picture, with their soft seams. */
export function clean(alpha, specks, holes) {
  const { data, width, height } = alpha;
  const mask = Uint8Array.from(data, (value) => (value > THRESHOLD ? 1 : 0));
  const speck = smallPieces(mask, height, width, specks, true);
  const hole = smallPieces(mask.map((value) => 1 - value), height, width, holes, false);
  if (!speck.includes(1) && !hole.includes(1)) return alpha;
  const cleaned = data.slice();
  const grow = (plane, radius) => dilate({ data: plane, width, height }, radius);
  const outline = grow(mask.map((value, i) => value & ~speck[i]), 1);
  const [aroundSpeck, aroundHole] = [grow(speck, SEAM_PX), grow(hole, SEAM_PX)];
  for (let i = 0; i < data.length; i++) {
    if (aroundSpeck[i] && (!mask[i] || speck[i])) cleaned[i] = 0;
    if (aroundHole[i] && (mask[i] || hole[i]) && !speck[i]) cleaned[i] = 1;
    if (outline[i] && !mask[i] && !hole[i]) cleaned[i] = data[i];
  }
  return { data: cleaned, width, height };
}

/** 1 where a connected piece of the mask is smaller than a share of the picture. */
function smallPieces(mask, height, width, share, withDiagonals) {
  const out = new Uint8Array(mask.length);
  if (share <= 0) return out;
  const labels = new Int32Array(mask.length);
  const parents = [0];
  const find = (label) => {
    while (parents[label] !== label) label = parents[label] = parents[parents[label]];
    return label;
  };
  const join = (a, b) => {
    if (!a || !b) return a || b;
    const [x, y] = [find(a), find(b)];
    return (parents[Math.max(x, y)] = Math.min(x, y));
  };
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!mask[i]) continue;
      let label = x > 0 ? labels[i - 1] : 0;
      if (y > 0) {
        if (labels[i - width] !== label) label = join(label, labels[i - width]);
        if (withDiagonals && x > 0 && labels[i - width - 1] !== label) label = join(label, labels[i - width - 1]);
        if (withDiagonals && x + 1 < width && labels[i - width + 1] !== label) label = join(label, labels[i - width + 1]);
      }
      if (!label) parents.push((label = parents.length));
      labels[i] = label;
    }
  }
  const roots = Int32Array.from(parents, (_, label) => find(label));
  const areas = new Float64Array(parents.length);
  for (let i = 0; i < labels.length; i++) areas[(labels[i] = roots[labels[i]])]++;
  for (let i = 0; i < out.length; i++) out[i] = labels[i] && areas[labels[i]] < share * mask.length ? 1 : 0;
  return out;
}

/** The greatest value within `radius` pixels, in a square. */
function dilate({ data, width, height }, radius) {
  const across = dilateLines(data, height, width, width, 1, radius);
  return dilateLines(across, width, height, 1, width, radius);
}

function dilateLines(source, lines, length, lineStep, step, radius) {
  const out = new source.constructor(source.length);
  for (let k = 0; k < lines; k++) {
    const start = k * lineStep;
    for (let i = 0; i < length; i++) {
      const last = Math.min(length - 1, i + radius);
      let most = source[start + i * step];
      for (let j = Math.max(0, i - radius); j <= last; j++) most = Math.max(most, source[start + j * step]);
      out[start + i * step] = most;
    }
  }
  return out;
}

/** Probability and the photo → refined alpha at the photo's size: EdgeRefiner of portraitseg/refine.py. */
export function refine(image, inputs, probability, settings) {
  const alpha = shape(apply(coefficients(inputs, probability, settings), image), settings.low, settings.high);
  return clean(alpha, settings.specks, settings.holes);
}

// ---- smoothing over time: portraitseg/smooth.py ----

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
