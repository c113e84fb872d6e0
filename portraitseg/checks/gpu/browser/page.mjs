// Runs in the page: one file on the GPU by one of two runtimes; outputs go back to the server as they are.

const KINDS = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array };

export async function run(job) {
  return await { mediapipe: runMediapipe, litert: runLitert }[job.library](job);
}

/** MediaPipe's ImageSegmenter on WebGL2. Inputs are RGBA bytes. */
async function runMediapipe(job) {
  const { FilesetResolver, ImageSegmenter } = await import("/node_modules/@mediapipe/tasks-vision/vision_bundle.mjs");
  const [height, width] = job.size;
  const canvas = new OffscreenCanvas(width, height);
  const gl = canvas.getContext("webgl2");
  if (!gl) return { adapter: null };
  // the runtime draws on this context for every operator; without the delegate it draws nothing
  const draw = gl.drawArrays.bind(gl);
  let draws = 0;
  gl.drawArrays = (...range) => {
    draws++;
    draw(...range);
  };
  const adapter = gl.getParameter(gl.getExtension("WEBGL_debug_renderer_info").UNMASKED_RENDERER_WEBGL);
  const segmenter = await ImageSegmenter.createFromOptions(
    await FilesetResolver.forVisionTasks("/node_modules/@mediapipe/tasks-vision/wasm"),
    {
      baseOptions: { modelAssetPath: "/model", delegate: "GPU" },
      canvas,
      runningMode: "IMAGE",
      outputConfidenceMasks: true,
      outputCategoryMask: false,
    },
  );
  for (let run = 0; run < job.runs; run++) {
    const image = new ImageData(new Uint8ClampedArray(await fetchBytes(run)), width, height);
    const masks = segmenter.segment(image).confidenceMasks.map((mask) => mask.getAsFloat32Array());
    await send(run, 0, interleave(masks));
  }
  return { adapter, precision: "fp16", accelerated: draws > 0 };
}

/** LiteRT on WebGPU. Inputs are the bytes of the one input tensor. */
async function runLitert(job) {
  const gpu = await navigator.gpu?.requestAdapter();
  if (!gpu) return { adapter: null };
  const litert = await import("/node_modules/@litertjs/core/dist/index.js");
  await litert.loadLiteRt("/node_modules/@litertjs/core/wasm/");
  const precision = gpu.features.has("shader-f16") ? "fp16" : "fp32";
  const model = await litert.loadAndCompile("/model", { accelerator: "webgpu", gpuOptions: { precision } });
  const [input] = model.getInputDetails();
  for (let run = 0; run < job.runs; run++) {
    const values = new KINDS[input.dtype](await fetchBytes(run));
    const outputs = await model.run(new litert.Tensor(values, input.shape));
    for (let index = 0; index < outputs.length; index++) await send(run, index, await outputs[index].data());
  }
  const { vendor, architecture, description } = gpu.info;
  const adapter = [vendor, architecture, description].filter(Boolean).join(" ") || "unnamed";
  return { adapter, precision, accelerated: model.isFullyAccelerated };
}

async function fetchBytes(run) {
  return await (await fetch(`/input/${run}`)).arrayBuffer();
}

async function send(run, index, values) {
  await fetch(`/output/${run}_${index}`, { method: "PUT", body: values });
}

/** Masks one after the other → all channels of a pixel together. */
function interleave(masks) {
  const values = new Float32Array(masks.length * masks[0].length);
  masks.forEach((mask, channel) => mask.forEach((value, pixel) => (values[pixel * masks.length + channel] = value)));
  return values;
}
