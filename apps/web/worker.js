// The worker: pictures in, masks out, so that the page never waits. A classic script, because LiteRT.js loads its own
// scripts by importScripts, which modules do not have; what it imports are modules.

"use strict";

const maths = Promise.all([import("./mask.mjs"), import("./refine.mjs"), import("./smooth.mjs")]);
const engines = Promise.all([import("./segmenter.mjs"), import("./mediapipe.mjs")]).then((all) => Object.assign({}, ...all));
const modules = Promise.all([maths.then((all) => Object.assign({}, ...all)), engines, import("./png.mjs")]);

/** Longer side of what is shown in pixels: more is not seen, and not every GPU takes it. */
const SHOWN_SIDE = 4096;

/** As the command line: what a phone's portrait mode makes at most. */
const MOST_PIXELS = 50_000_000;

let segmenter = null;
let network = null;
let smoother = null;
let photo = null;
let canvas = null;
let lastSize = "";
let frameBytes = new Uint8ClampedArray(0);

const now = () => performance.now();

/** The pixels of a bitmap, RGBA, as they are in the file. */
function readPixels(bitmap, width = bitmap.width, height = bitmap.height) {
  if (canvas?.width !== width || canvas?.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.clearRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** The pixels of a camera's frame, in a buffer that the next one overwrites. */
async function readFrame(picture) {
  if (picture instanceof ImageBitmap) return readPixels(picture);
  const { displayWidth: width, displayHeight: height } = picture;
  if (frameBytes.length !== width * height * 4) frameBytes = new Uint8ClampedArray(width * height * 4);
  await picture.copyTo(frameBytes, { format: "RGBA" });
  return { data: frameBytes, width, height };
}

/** Colours under transparent pixels are kept, as Python keeps them: a 2D canvas would have made them black. */
function readUnderAlpha(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const data = new Uint8ClampedArray(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(data.buffer));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return { data, width, height };
}

const DECODE = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

async function decode(blob) {
  const [, { Refusal }] = await modules;
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, DECODE);
  } catch {
    throw new Refusal("This picture is damaged, or too large for this browser.");
  }
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    const megapixels = Math.round((bitmap.width * bitmap.height) / 1e6);
    bitmap.close();
    throw new Refusal(`This picture has ${megapixels} megapixels: at most ${MOST_PIXELS / 1e6}. Make it smaller first.`);
  }
  let image = readPixels(bitmap);
  let isTransparent = false;
  for (let i = 3; i < image.data.length && !isTransparent; i += 4) isTransparent = image.data[i] !== 255;
  if (isTransparent) {
    const whole = readUnderAlpha(bitmap);
    if (!whole) throw new Refusal("This picture is transparent, and too large to be read: save it without transparency.");
    image = whole;
    for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
    bitmap.close();
    bitmap = await createImageBitmap(new ImageData(image.data, image.width, image.height));
  }
  return { bitmap, image, isTransparent };
}

/** Golden portrait and mask of a released network, as bytes; see export/publishing. */
async function goldenCheck(entry, engine) {
  const [, { checkGolden, Refusal }] = await modules;
  const { golden } = entry;
  if (!golden) return undefined;
  const read = async (url) => {
    const response = await fetch(url).catch(() => null);
    if (!response?.ok) throw new Refusal(`${url} could not be loaded: is the server still running?`);
    return readPixels(await createImageBitmap(await response.blob(), DECODE));
  };
  const [portrait, expected] = [await read(golden.portrait), await read(golden.masks[engine] ?? golden.masks.wasm)];
  return async (made) => {
    const probability = await made.probability(portrait);
    checkGolden(made, probability, expected.data.filter((_, i) => i % 4 === 0), golden);
  };
}

async function run(image) {
  const [{ resizeImage }] = await modules;
  const start = now();
  const inputs = resizeImage(image, segmenter.height, segmenter.width);
  const shrunk = now();
  const probability = await segmenter.probability(inputs);
  return { inputs, probability, times: { shrink: shrunk - start, network: now() - shrunk } };
}

const KINDS = {
  /** Another network or engine; the one before is kept where this one is refused. */
  async load({ entry, engine }) {
    const [mask, { Segmenter, MediapipeSegmenter }] = await modules;
    const start = now();
    const check = await goldenCheck(entry, engine);
    const made = await (engine === "mediapipe" ? MediapipeSegmenter.create(entry, check) : Segmenter.create(entry, engine, check));
    segmenter?.close();
    segmenter = made;
    network = entry;
    smoother = new mask.MaskSmoother(entry.smooth);
    const { height, width, threads } = made;
    return { value: { height, width, threads, engine, load: now() - start } };
  },

  /** A photo, or the last one again without `blob`: alpha in bytes, at its own size and at that to be shown. */
  async photo({ blob, refine }) {
    const [mask] = await modules;
    const start = now();
    if (blob) {
      photo = null;
      photo = await decode(blob);
    }
    const { image, bitmap, isTransparent } = photo;
    const decoded = now();
    const { inputs, probability, times } = await run(image);
    const ran = now();
    const alpha = refine
      ? mask.refine(image, inputs, probability, network.refine)
      : mask.probabilityToAlpha(probability, image.height, image.width);
    photo.alpha = mask.alphaToBytes(alpha);
    photo.person = mask.alphaToMask(alpha);
    Object.assign(times, { decode: decoded - start, edges: now() - ran });
    const { width, height } = image;
    const factor = Math.min(1, SHOWN_SIDE / Math.max(width, height));
    const [w, h] = [Math.max(1, Math.round(width * factor)), Math.max(1, Math.round(height * factor))];
    const resize = { resizeWidth: w, resizeHeight: h, resizeQuality: "high" };
    const shown = await createImageBitmap(bitmap, factor < 1 ? resize : {});
    const bytes = factor < 1 ? shrinkBytes(mask, photo.alpha, width, height, w, h) : photo.alpha.slice();
    const isEmpty = !photo.person.includes(1);
    const value = { bitmap: shown, alpha: bytes, width, height, times, isTransparent, isEmpty, isShrunk: factor < 1 };
    return { value, transfer: [shown, bytes.buffer] };
  },

  /** One frame of a camera: the picture back, with coefficients for the shader (or the plain probability as one). */
  async frame({ picture, time, refine, smooth, mirrored }) {
    const [mask] = await modules;
    const start = now();
    const image = await readFrame(picture);
    const size = `${image.width}×${image.height} ${mirrored}`;
    if (size !== lastSize || !smooth) smoother.reset();
    lastSize = size;
    const read = now();
    const { inputs, probability, times } = await run(image);
    const ran = now();
    const steady = smooth ? smoother.smooth(probability, time) : probability;
    const smoothed = now();
    const found = refine ? mask.coefficients(inputs, steady, network.refine) : plainCoefficients(steady);
    Object.assign(times, { decode: read - start, smooth: smoothed - ran, edges: now() - smoothed });
    return { value: { picture, found, times }, transfer: [picture, found.data.buffer] };
  },

  async reset() {
    smoother?.reset();
    lastSize = "";
    return { value: null };
  },

  /** The last photo as a PNG of its own size: cut out, its alpha, or its mask. */
  async png({ output }) {
    const [, { Refusal }, { encodePng }] = await modules;
    if (!photo?.alpha) throw new Refusal("There is no photo yet.");
    const { image, alpha, person } = photo;
    const { width, height } = image;
    let data = output === "mask" ? person.map((value) => value * 255) : alpha;
    if (output === "cutout") {
      data = new Uint8Array(image.data);
      for (let i = 0; i < alpha.length; i++) data[i * 4 + 3] = alpha[i];
    }
    return { value: await encodePng(data, width, height, output === "cutout" ? 4 : 1) };
  },
};

function plainCoefficients({ data, width, height }) {
  const found = new Float32Array(data.length * 4);
  for (let i = 0; i < data.length; i++) found[i * 4 + 3] = data[i];
  return { data: found, width, height };
}

function shrinkBytes(mask, alpha, width, height, w, h) {
  const data = new Uint8ClampedArray(alpha.length * 4);
  for (let i = 0; i < alpha.length; i++) data[i * 4] = alpha[i];
  const small = mask.resizeImage({ data, width, height }, h, w).data;
  return Uint8ClampedArray.from({ length: w * h }, (_, i) => small[i * 4]);
}

// one after the other: one network, one photo
let last = Promise.resolve();
self.onmessage = ({ data: { id, kind, ...rest } }) => {
  last = last.then(async () => {
    try {
      const { value, transfer = [] } = await KINDS[kind](rest);
      self.postMessage({ id, value }, transfer);
    } catch (error) {
      const [, { Refusal, firstLine }] = await modules;
      self.postMessage({ id, error: firstLine(error), isRefusal: error instanceof Refusal });
    }
  });
};
