// Pixels to tensors, and probabilities to masks: what portraitseg/contract.py does, number for number (docs/vectors.json
// holds both to each other). No browser is needed: node runs it.
//
// A picture is {data, width, height} with RGBA bytes, as ImageData; a plane is {data, width, height} with floats.

const round = Math.fround;

/** Exactly one half is background. */
export const THRESHOLD = 0.5;

/** Round half to even, as OpenCV's cvRound does. */
export function roundEven(value) {
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
  const { source: column, weight: part, target } = columns;
  const ends = new Int32Array(width);
  for (let j = 0; j < columns.count; j++) ends[target[j]] = j + 1;
  const sum = new Float32Array(width * 3);
  for (let k = 0; k < rows.count; k++) {
    const start = rows.source[k] * w;
    const weight = rows.weight[k];
    const isFirst = k === 0 || rows.target[k - 1] !== rows.target[k];
    const isLast = k + 1 === rows.count || rows.target[k + 1] !== rows.target[k];
    let to = rows.target[k] * width * 4;
    for (let x = 0, i = 0, j = 0; x < width; x++, i += 3, to += 4) {
      let r = 0;
      let g = 0;
      let b = 0;
      for (let from = (start + column[j]) * 4; j < ends[x]; j++, from += 4) {
        r = round(r + round(source[from] * part[j]));
        g = round(g + round(source[from + 1] * part[j]));
        b = round(b + round(source[from + 2] * part[j]));
      }
      r = round(weight * r);
      g = round(weight * g);
      b = round(weight * b);
      if (!isFirst) {
        r = round(sum[i] + r);
        g = round(sum[i + 1] + g);
        b = round(sum[i + 2] + b);
      }
      if (isLast) {
        // an array of clamped bytes rounds half to even, as OpenCV does
        out[to] = r;
        out[to + 1] = g;
        out[to + 2] = b;
      } else {
        sum[i] = r;
        sum[i + 1] = g;
        sum[i + 2] = b;
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
export function stretchPlane(values, w, h, height, width, stride = 1, offset = 0) {
  const columns = linearTable(w, width);
  const rows = linearTable(h, height);
  const { first, second, weight: part } = columns;
  const out = new Float32Array(height * width);
  const upper = new Float32Array(width);
  const lower = new Float32Array(width);
  const fill = (line, row) => {
    for (let x = 0; x < width; x++) {
      const left = values[(row * w + first[x]) * stride + offset];
      const right = values[(row * w + second[x]) * stride + offset];
      line[x] = round(left * round(1 - part[x])) + round(right * part[x]);
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
  const bytes = new Uint8ClampedArray(data.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = toByte(data[i]);
  return bytes;
}

/** Alpha → 1 where it is person, else 0. */
export function alphaToMask({ data }) {
  const mask = new Uint8Array(data.length);
  for (let i = 0; i < mask.length; i++) mask[i] = data[i] > THRESHOLD ? 1 : 0;
  return mask;
}

/** Of a quantized output: bytes → probabilities. */
export function dequantize(bytes, scale, zeroPoint) {
  return Float32Array.from(bytes, (byte) => (byte - zeroPoint) * scale);
}

/** Stretches floats as a picture is stretched. */
export function shrinkPlane({ data, width: w, height: h }, height, width) {
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

/** The greatest value within `radius` pixels, in a square. */
export function dilate({ data, width, height }, radius) {
  const across = dilateLines(data, height, width, width, 1, radius);
  return dilateLines(across, width, height, 1, width, radius);
}

function dilateLines(source, lines, length, lineStep, step, radius) {
  const out = source.slice();
  for (let k = 0; k < lines; k++) {
    const start = k * lineStep;
    for (let i = 0; i < length; i++) {
      const value = source[start + i * step];
      // most of a mask of specks is empty
      if (value === 0) continue;
      const last = start + Math.min(length - 1, i + radius) * step;
      for (let j = start + Math.max(0, i - radius) * step; j <= last; j += step) if (value > out[j]) out[j] = value;
    }
  }
  return out;
}
