// Runs docs/vectors.json, or a file of that form, against apps/web/mask.mjs: `node vectors.mjs FILE`.
// Prints one line of JSON: for each case the greatest difference, and whether it is within the file's own tolerance.

import { readFile } from "node:fs/promises";
import * as mask from "../../apps/web/mask.mjs";
import * as edges from "../../apps/web/refine.mjs";
import { MaskSmoother } from "../../apps/web/smooth.mjs";

const vectors = JSON.parse(await readFile(process.argv[2], "utf8"));
const results = [];

const flat = (values) => values.flat(Infinity);
const picture = (rows) => {
  const data = new Uint8ClampedArray(rows.length * rows[0].length * 4).fill(255);
  rows.flat().forEach((pixel, i) => data.set(pixel, i * 4));
  return { data, width: rows[0].length, height: rows.length };
};
const plane = (rows) => ({ data: Float32Array.from(flat(rows)), width: rows[0].length, height: rows.length });
const colours = ({ data }) => Array.from(data).filter((_, i) => i % 4 !== 3);

function differences(found, expected) {
  const values = flat(expected).map(Number);
  if (found.length !== values.length) return [Infinity];
  return values.map((value, i) => (Number.isFinite(found[i]) ? Math.abs(found[i] - value) : Infinity));
}
const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function say(name, difference, tolerance) {
  results.push({ name, difference: Number.isFinite(difference) ? difference : 1e9, tolerance, passed: difference <= tolerance });
}

function compare(name, found, expected, tolerance) {
  say(name, most(differences(found, expected)), tolerance);
}

const [height, width] = vectors.shrink.size;
vectors.shrink.cases.forEach(({ method, photo, resized }, i) => {
  const found = mask.resizeImage(picture(photo), height, width);
  compare(`shrink ${i} ${method}`, colours(found), resized, vectors.shrink.tolerance[method]);
});

const { ties, stretch, refine, smooth } = vectors;
compare("ties byte", ties.probability.map(mask.toByte), ties.byte, 0);
compare("ties person", ties.probability.map((value) => Number(value > mask.THRESHOLD)), ties.person, 0);
const file = ties.uint8_file;
const said = mask.dequantize(Uint8Array.from(file.byte), file.scale, file.zero_point);
compare("ties uint8 probability", said, file.probability, 0);
compare("ties uint8 person", Array.from(said, (value) => Number(value > mask.THRESHOLD)), file.person, 0);

const stretched = mask.probabilityToAlpha(plane(stretch.probability), ...stretch.size);
compare("stretch", stretched.data, stretch.alpha, stretch.tolerance);

const [photo, inputs, probability] = [picture(refine.photo), picture(refine.inputs), plane(refine.probability)];
const { tolerance } = refine;
const kept = edges.coefficients(inputs, probability, { ...refine, specks: 0 });
compare("coefficients with specks", kept.data, refine.coefficients_with_specks, tolerance.coefficients);
const made = edges.coefficients(inputs, probability, refine);
compare("coefficients", made.data, refine.coefficients, tolerance.coefficients);
const alpha = edges.apply(made, photo);
const apart = differences(alpha.data, refine.alpha);
say("alpha", most(apart), tolerance.alpha);
say("alpha mean", mean(apart), tolerance.alpha_mean);
// the smooth step is up to 1.9 times as steep
const shaped = edges.shape({ ...alpha, data: alpha.data.slice() }, refine.low, refine.high);
compare("shaped", shaped.data, refine.shaped, 2 * tolerance.alpha);
const settings = { holes: 0.01, ...refine };
const found = edges.refine(photo, inputs, probability, settings).data.map((value) => Number(value > mask.THRESHOLD));
say("mask", differences(found, refine.mask).reduce((a, b) => a + b, 0), tolerance.mask_flipped_pixels);

const smoother = new MaskSmoother(smooth);
for (const [i, frame] of smooth.frames.entries()) {
  const steady = smoother.smooth(plane(frame.probability), frame.time_s);
  compare(`smooth ${i}`, steady.data, frame.smoothed, smooth.tolerance);
}
console.log(JSON.stringify(results));
