// One network in LiteRT.js: loads and checks its file, runs it, and says what is wrong in a sentence. Runs in the worker.

import { THRESHOLD, imageToInputs } from "./mask.mjs";

/** A message for the user, as it stands. */
export class Refusal extends Error {}

const LITERT = new URL("./litert/", import.meta.url);

/** More threads gain nothing for networks this small. */
const MOST_THREADS = 4;

let runtime;

/** Loads LiteRT.js once. Threads need a page that is isolated from others (COOP and COEP). */
async function loadRuntime() {
  if (typeof WebAssembly === "undefined") throw new Refusal("This browser has no WebAssembly, or it is switched off.");
  const litert = await import(new URL("index.js", LITERT));
  const cores = Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1);
  const canShare = self.crossOriginIsolated === true && (await litert.supportsFeature("threads"));
  const threads = cores > 1 && canShare && (await litert.supportsFeature("relaxedSimd"));
  const folder = new URL("wasm/", LITERT);
  // a worker's own address is not where LiteRT's files are; its threads start from its script, not from ours
  self.Module = { locateFile: (name) => new URL(name, folder).href };
  if (threads) self.Module.mainScriptUrlOrBlob = new URL("litert_wasm_threaded_internal.js", folder).href;
  await litert.loadLiteRt(folder.href, { threads });
  return { litert, threads: threads ? cores : 1 };
}

/** Bytes of a file that the page serves, checked against what networks.json says of it. */
export async function fetchFile({ url, bytes, sha256 }) {
  const response = await fetch(new URL(url, import.meta.url)).catch(() => null);
  if (!response?.ok) throw new Refusal(`${url} could not be loaded: is the server still running?`);
  const content = new Uint8Array(await response.arrayBuffer());
  const damaged = `${url} is damaged (its hash differs from networks.json): build the page again.`;
  if (content.length !== bytes) throw new Refusal(damaged);
  // only pages from https or this machine may hash
  if (self.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") !== sha256) throw new Refusal(damaged);
  }
  return content;
}

export class Segmenter {
  #model;
  #litert;

  /**
   * @param network an entry of networks.json, or {name, content} with a file of the user's
   * @param engine "wasm" or "webgpu"; "mediapipe" is mediapipe.mjs
   * @param check golden portrait → whether a mask of it is right; see `checkGolden`
   * @returns a segmenter that has been run once
   */
  static async create(network, engine, check) {
    if (engine === "webgpu" && !(await navigator.gpu?.requestAdapter())) {
      throw new Refusal("This browser offers no WebGPU here: choose WASM, which runs everywhere.");
    }
    runtime ??= loadRuntime();
    const { litert, threads } = await runtime.catch((error) => {
      runtime = undefined;
      throw error;
    });
    const segmenter = new Segmenter();
    segmenter.#litert = litert;
    Object.assign(segmenter, { name: network.name, engine, threads: engine === "wasm" ? threads : 0 });
    const content = network.content ?? (await fetchFile(network.files[engine]));
    await segmenter.#compile(network.name, content, network.size);
    if (check) await check(segmenter);
    else await segmenter.probability({ data: new Uint8ClampedArray(segmenter.height * segmenter.width * 4) });
    return segmenter;
  }

  async #compile(name, content, size) {
    if (new TextDecoder().decode(content.subarray(4, 8)) !== "TFL3") {
      throw new Refusal(`${name} is not a .tflite file, or its beginning is damaged.`);
    }
    try {
      const options = { accelerator: this.engine };
      if (this.threads) options.cpuOptions = { numThreads: this.threads };
      this.#model = await this.#litert.loadAndCompile(content, options);
    } catch (error) {
      throw new Refusal(`${name} cannot be opened by LiteRT.js on ${this.engine}: it is damaged, or has operators that are not known there (${firstLine(error)}).`);
    }
    const [inputs, outputs] = [this.#model.getInputDetails(), this.#model.getOutputDetails()];
    const [input, output] = [inputs[0], outputs[0]];
    const [batch, height, width, channels] = input?.shape ?? [];
    const isImage = inputs.length === 1 && input.shape.length === 4 && batch === 1 && (channels === 3 || channels === 4);
    const isMask = outputs.length === 1 && Array.from(output.shape).reduce((a, b) => a * b, 1) === height * width;
    if (!isImage || !isMask || input.dtype !== "float32" || output.dtype !== "float32") {
      const words = (tensors) => tensors.map(({ shape, dtype }) => `${Array.from(shape).join("×")} ${dtype}`).join(", ");
      this.close();
      throw new Refusal(`${name} has another size: input ${words(inputs)}, output ${words(outputs)}. The page takes 1×h×w×3 or 4 and gives 1×h×w×1, both float32.`);
    }
    if (size && (size[0] !== height || size[1] !== width)) {
      this.close();
      throw new Refusal(`${name} is of ${height}×${width}, networks.json says ${size.join("×")}: build the page again.`);
    }
    Object.assign(this, { height, width, channels, shape: input.shape });
  }

  /** A picture of the network's size → probability of person, a plane of that size. */
  async probability(image) {
    const input = new this.#litert.Tensor(imageToInputs(image, this.channels), this.shape);
    let outputs = [];
    try {
      outputs = await this.#model.run(input);
      const data = finite(this, Float32Array.from(await outputs[0].data()));
      return { data, width: this.width, height: this.height };
    } finally {
      for (const tensor of [input, ...outputs]) if (!tensor.deleted) tensor.delete();
    }
  }

  close() {
    this.#model?.delete();
    this.#model = undefined;
  }
}

/** Probabilities, in place: NaN would be an empty mask, and nobody would know. */
export function finite({ name, engine }, data) {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i])) throw new Refusal(`${name} says NaN on ${engine}: take another file.`);
    data[i] = Math.min(1, Math.max(0, data[i]));
  }
  return data;
}

/** Throws unless the mask of the golden portrait is the exporter's, within its own tolerance. */
export function checkGolden(segmenter, probability, expected, { mean_steps, flipped_share }) {
  let [steps, flipped] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    steps += Math.abs(probability.data[i] * 255 - expected[i]);
    if (probability.data[i] > THRESHOLD !== expected[i] > 127) flipped++;
  }
  const share = flipped / expected.length;
  if (steps / expected.length > mean_steps || share > flipped_share) {
    throw new Refusal(`${segmenter.name} gives a wrong mask on ${segmenter.engine} here (${(share * 100).toFixed(1)} % of the golden portrait's pixels).`);
  }
}

export function firstLine(error) {
  return String(error?.message ?? error).split("\n")[0].slice(0, 200);
}
