// Edge refinement: what portraitseg/refine.py does, where it is explained. The last step is a line of shader.mjs too.

import { THRESHOLD, alphaToMask, dilate, resizeImage, roundEven, shrinkPlane, stretchPlane } from "./mask.mjs";

const round = Math.fround;

/** How far the soft seam of a speck or a hole reaches at the photo's size, in pixels. */
const SEAM_PX = 3;

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
  const [red, green, blue, mask, redMask, greenMask, blueMask, rr, rg, rb, gg, gb, bb] = planes;
  for (let i = 0; i < count; i++) {
    const r = (red[i] = round(small[i * 4] / 255));
    const g = (green[i] = round(small[i * 4 + 1] / 255));
    const b = (blue[i] = round(small[i * 4 + 2] / 255));
    const t = (mask[i] = target[i]);
    redMask[i] = r * t;
    greenMask[i] = g * t;
    blueMask[i] = b * t;
    rr[i] = r * r;
    rg[i] = r * g;
    rb[i] = r * b;
    gg[i] = g * g;
    gb[i] = g * b;
    bb[i] = b * b;
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
  const mr = planes[0][i];
  const mg = planes[1][i];
  const mb = planes[2][i];
  const mt = planes[3][i];
  const x = planes[4][i] - mr * mt;
  const y = planes[5][i] - mg * mt;
  const z = planes[6][i] - mb * mt;
  const rr = planes[7][i] - mr * mr + epsilon;
  const rg = planes[8][i] - mr * mg;
  const rb = planes[9][i] - mr * mb;
  const gg = planes[10][i] - mg * mg + epsilon;
  const gb = planes[11][i] - mg * mb;
  const bb = planes[12][i] - mb * mb + epsilon;
  const c00 = gg * bb - gb * gb;
  const c01 = rb * gb - rg * bb;
  const c02 = rg * gb - rb * gg;
  const c11 = rr * bb - rb * rb;
  const c12 = rg * rb - rr * gb;
  const c22 = rr * gg - rg * rg;
  const determinant = rr * c00 + rg * c01 + rb * c02;
  const r = (c00 * x + c01 * y + c02 * z) / determinant;
  const g = (c01 * x + c11 * y + c12 * z) / determinant;
  const b = (c02 * x + c12 * y + c22 * z) / determinant;
  found[0][i] = r;
  found[1][i] = g;
  found[2][i] = b;
  found[3][i] = mt - r * mr - g * mg - b * mb;
}

/** Mean over windows of (2 radius + 1)², in place; beyond the edge its pixels are repeated. */
function box(plane, height, width, radius) {
  boxLines(plane, height, width, width, 1, radius);
  boxLines(plane, width, height, 1, width, radius);
}

function boxLines(plane, lines, length, lineStep, step, radius) {
  const line = new Float64Array(length + 2 * radius + 1);
  const share = 1 / (2 * radius + 1);
  for (let k = 0; k < lines; k++) {
    const start = k * lineStep;
    line.fill(plane[start], 0, radius);
    for (let i = 0; i < length; i++) line[i + radius] = plane[start + i * step];
    line.fill(plane[start + (length - 1) * step], length + radius);
    let sum = 0;
    for (let i = 0; i <= 2 * radius; i++) sum += line[i];
    for (let i = 0; i < length; i++) {
      plane[start + i * step] = sum * share;
      sum += line[i + 2 * radius + 1] - line[i];
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
  const seam = dilate({ data: small, width, height }, radius);
  const own = dilate({ data: without(mask, small), width, height }, 1);
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
  const mask = alphaToMask(alpha);
  const speck = smallPieces(mask, height, width, specks, true);
  const hole = smallPieces(without(new Uint8Array(mask.length).fill(1), mask), height, width, holes, false);
  if (!speck.includes(1) && !hole.includes(1)) return alpha;
  const cleaned = data.slice();
  const grow = (plane, radius) => dilate({ data: plane, width, height }, radius);
  const outline = grow(without(mask, speck), 1);
  const [aroundSpeck, aroundHole] = [grow(speck, SEAM_PX), grow(hole, SEAM_PX)];
  for (let i = 0; i < data.length; i++) {
    if (aroundSpeck[i] && (!mask[i] || speck[i])) cleaned[i] = 0;
    if (aroundHole[i] && (mask[i] || hole[i]) && !speck[i]) cleaned[i] = 1;
    if (outline[i] && !mask[i] && !hole[i]) cleaned[i] = data[i];
  }
  return { data: cleaned, width, height };
}

/** The first mask where the second is not. */
function without(mask, other) {
  const out = new Uint8Array(mask.length);
  for (let i = 0; i < out.length; i++) out[i] = mask[i] & ~other[i];
  return out;
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
    const x = find(a);
    const y = find(b);
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

/** Probability and the photo → refined alpha at the photo's size: EdgeRefiner of portraitseg/refine.py. */
export function refine(image, inputs, probability, settings) {
  const alpha = shape(apply(coefficients(inputs, probability, settings), image), settings.low, settings.high);
  return clean(alpha, settings.specks, settings.holes);
}
