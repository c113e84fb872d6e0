// MediaPipe's own segmenter (tasks-vision) beside LiteRT.js, for the same files: on the CPU, one thread. Runs in the worker.

import { Refusal, Segmenter, fetchFile, finite, firstLine } from "./segmenter.mjs";

const FOLDER = new URL("./mediapipe/", import.meta.url);

let vision;

async function loadVision() {
  const { FilesetResolver, ImageSegmenter } = await import(new URL("vision_bundle.mjs", FOLDER));
  const files = await FilesetResolver.forVisionTasks(new URL("wasm", FOLDER).href);
  return { ImageSegmenter, files };
}

export class MediapipeSegmenter {
  #task;

  /** As `Segmenter.create`. */
  static async create(network, check) {
    const segmenter = new MediapipeSegmenter();
    Object.assign(segmenter, { name: network.name, engine: "mediapipe", threads: 1 });
    [segmenter.height, segmenter.width] = network.size ?? (await sizeOf(network));
    const modelAssetBuffer = network.content ?? (await fetchFile(network.files.wasm));
    // LiteRT.js leaves its own module where MediaPipe's loader looks for one
    self.Module = self.ModuleFactory = undefined;
    vision ??= loadVision();
    try {
      const { ImageSegmenter, files } = await vision;
      segmenter.#task = await ImageSegmenter.createFromOptions(files, {
        baseOptions: { modelAssetBuffer, delegate: "CPU" },
        runningMode: "IMAGE",
        outputConfidenceMasks: true,
        outputCategoryMask: false,
      });
    } catch (error) {
      throw new Refusal(`${network.name} cannot be opened by MediaPipe's runtime: it has no metadata, or takes no RGB floats (${firstLine(error)}).`);
    }
    try {
      await check?.(segmenter);
    } catch (error) {
      segmenter.close();
      throw error;
    }
    return segmenter;
  }

  /** As `Segmenter.probability`: of a picture of the network's size, so that nothing is stretched here. */
  async probability({ data, width, height }) {
    const result = this.#task.segment(new ImageData(new Uint8ClampedArray(data), width, height));
    try {
      return { data: finite(this, Float32Array.from(result.confidenceMasks[0].getAsFloat32Array())), width, height };
    } finally {
      result.close();
    }
  }

  close() {
    this.#task?.close();
    this.#task = undefined;
  }
}

/** MediaPipe does not say what size a network takes; LiteRT.js does, and what is wrong with a file. */
async function sizeOf(network) {
  const probe = await Segmenter.create(network, "wasm");
  probe.close();
  return [probe.height, probe.width];
}
