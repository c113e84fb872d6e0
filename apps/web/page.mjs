// The page: what is pressed, dropped and pasted, and what is shown. The work is done in worker.js and shader.mjs.

import { Camera } from "./camera.mjs";
import { Client, Refusal } from "./client.mjs";
import { Painter } from "./shader.mjs";

/** As worker.js, where it is checked again: a picture is asked for its size before it is decoded. */
const MOST_PIXELS = 50_000_000;

/** Where a network of the user's own has no parameters chosen for it: the defaults of refine.py and smooth.py. */
const DEFAULTS = {
  refine: { side: 128, radius: 2, epsilon: 1e-3, low: 0.1, high: 0.9, specks: 0.002, holes: 0.0005 },
  smooth: { keep: 0.9, low: 0.1, high: 0.5, reach: 4, cut: 0.2, gap_s: 0.5 },
};

const ENGINES = { wasm: "the CPU", webgpu: "WebGPU", mediapipe: "MediaPipe's runtime" };

/** Of a camera: nobody reads them faster. */
const TIMES_EVERY_MS = 250;

const STEPS = { decode: "read", shrink: "shrink", network: "network", smooth: "smooth", edges: "edges", draw: "draw", total: "together" };

const find = (id) => document.getElementById(id);
const [controls, canvas, split] = [find("controls"), find("canvas"), find("split")];
const camera = new Camera();
let painter = null;
let networks = [];
let loaded = null;
let shown = null;
/** The photo that the worker holds, decoded. */
let held = null;
let fileName = "photo";
let client;
let timesShown = 0;
let work = Promise.resolve();
let pending = 0;

const look = () => controls.elements.look.value;
const say = (text) => (find("status").textContent = text);

function complain(error) {
  find("message").textContent = error.message ?? String(error);
  find("message").hidden = false;
  if (!(error instanceof Refusal)) console.warn(error);
}

function forgive() {
  find("message").hidden = true;
}

/** One thing after the other; a failure is said, and what was shown before stays. */
function then(job) {
  pending++;
  find("stage").setAttribute("aria-busy", "true");
  work = work.then(async () => {
    try {
      await job();
    } catch (error) {
      complain(error);
      say(shown?.words ?? (loaded ? "Ready." : "Nothing is shown yet."));
    }
    if (--pending === 0) find("stage").setAttribute("aria-busy", "false");
  });
  return work;
}

async function loadNetwork() {
  const [entry, engine] = [networks[find("network").selectedIndex], find("engine").value];
  if (loaded?.entry === entry && loaded.engine === engine) return;
  say(`Loading ${entry.title} …`);
  try {
    const said = await client.ask("load", { entry, engine });
    loaded = { entry, engine };
    const threads = said.threads > 1 ? `${said.threads} threads` : "one thread";
    const hint = self.crossOriginIsolated ? "" : " (more need a server that sends COOP and COEP headers)";
    const words = { wasm: `LiteRT.js on the CPU, ${threads}${hint}`, webgpu: "LiteRT.js on WebGPU", mediapipe: "MediaPipe's own runtime on the CPU, one thread" };
    const checked = entry.golden ? " Its mask of a golden portrait was checked." : "";
    find("engine-note").textContent = `${words[engine]}; ready in ${Math.round(said.load)} ms.${checked}`;
    say("Ready.");
  } catch (error) {
    // a runtime that stumbled over a file may be damaged by it
    if (loaded || engine !== "wasm" || !entry.files) await fallBack(entry, engine, error);
    else throw error;
  }
}

/** What ran before runs again: another engine, or another network. */
async function fallBack(entry, engine, error) {
  const back = loaded ?? { entry: entry.files ? entry : networks[0], engine: "wasm" };
  loaded = null;
  client.restart(error.message);
  find("network").selectedIndex = networks.indexOf(back.entry);
  find("engine").value = back.engine;
  await loadNetwork();
  await segmentAgain();
  throw new Refusal(`${error.message} ${back.entry.title} on ${ENGINES[back.engine]} is used instead.`);
}

async function segmentAgain() {
  if (shown?.blob && !camera.isOn) await segment(shown.blob);
}

/** Its size, without decoding it: 200 megapixels would take 800 MB. */
async function checkPicture(blob) {
  const url = URL.createObjectURL(blob);
  try {
    const image = new Image();
    const isRead = await new Promise((resolve) => {
      image.onload = () => resolve(true);
      image.onerror = () => resolve(false);
      image.src = url;
    });
    const kind = blob.type || "unknown";
    if (!isRead || !image.naturalWidth) throw new Refusal(`This file (${kind}) is not a picture that this browser reads, or it is damaged: take a JPEG, PNG, WebP or AVIF.`);
    const pixels = image.naturalWidth * image.naturalHeight;
    if (pixels > MOST_PIXELS) throw new Refusal(`This picture has ${Math.round(pixels / 1e6)} megapixels: at most ${MOST_PIXELS / 1e6}. Make it smaller first.`);
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function open(blob, name = "photo") {
  forgive();
  stopCamera();
  await checkPicture(blob);
  await segment(blob);
  fileName = name.replace(/\.[^.]*$/, "") || "photo";
}

async function segment(blob) {
  await loadNetwork();
  say("Segmenting …");
  const isHeld = held?.blob === blob && held.generation === client.generation;
  const start = performance.now();
  held = null;
  const said = await client.ask("photo", { blob: isHeld ? undefined : blob, refine: find("refine").checked });
  held = { blob, generation: client.generation };
  shown?.bitmap?.close();
  shown = { blob, ...said };
  painter.setFrame(said.bitmap, { alpha: said.alpha });
  draw(said.times, start);
  const notes = [`${said.width}×${said.height}`];
  if (said.isEmpty) notes.push("nobody was found");
  if (said.isTransparent) notes.push("its transparency is left out");
  if (said.isShrunk) notes.push("shown smaller than it is; PNGs are of its own size");
  shown.words = `${notes.join("; ")}.`;
  say(shown.words);
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = false;
}

function draw(times, start) {
  if (!painter?.width || !(shown || camera.isOn)) return;
  const begin = performance.now();
  const kind = look() === "picture" && !painter.hasPicture ? "color" : look();
  const color = [1, 3, 5].map((i) => parseInt(find("color").value.slice(i, i + 2), 16) / 255);
  const { low, high } = camera.isOn && find("refine").checked ? loaded.entry.refine : { low: 0, high: 1 };
  const mirrored = camera.isOn && camera.isMirrored;
  painter.draw({ look: kind, color, strength: Number(find("strength").value), split: split.value / 100, mirrored, low, high });
  const words = camera.isOn ? "The camera's picture" : `The photo as ${kind}`;
  // a camera's next frame changes nothing around it: layout costs as much as a small network
  if (!camera.isOn || canvas.getAttribute("aria-label") !== words) reveal(words);
  const now = performance.now();
  if (!times || (camera.isOn && now - timesShown < TIMES_EVERY_MS)) return;
  timesShown = now;
  showTimes({ ...times, draw: now - begin, total: now - start });
}

function reveal(words) {
  find("drop").classList.add("filled");
  find("hint").hidden = true;
  canvas.hidden = split.disabled = false;
  canvas.setAttribute("aria-label", words);
  placeHandle();
}

function showTimes(times) {
  const rows = Object.entries(STEPS).filter(([key]) => times[key] !== undefined);
  const body = document.createElement("tbody");
  for (const [key, name] of rows) {
    const row = body.insertRow();
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: name }));
    row.insertCell().textContent = times[key].toFixed(1);
  }
  find("times").tBodies[0].replaceWith(body);
}

function placeHandle() {
  const share = split.value / 100;
  const handle = find("handle");
  handle.hidden = canvas.hidden || share <= 0 || share >= 1;
  const [box, outer] = [canvas.getBoundingClientRect(), find("drop").getBoundingClientRect()];
  handle.style.left = `${box.left - outer.left + box.width * share - 1}px`;
  handle.style.top = `${box.top - outer.top}px`;
  handle.style.height = `${box.height}px`;
}

async function startCamera() {
  forgive();
  await loadNetwork();
  say("Waiting for the camera …");
  await camera.start(painter.takesFrames, (reason) => {
    stopCamera();
    complain(new Refusal(reason));
  });
  shown = null;
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = button.dataset.save !== "shown";
  find("camera").textContent = "Stop the camera";
  find("camera").setAttribute("aria-pressed", "true");
  await client.ask("reset");
  void runCamera();
}

function stopCamera() {
  camera.stop();
  find("camera").textContent = "Start the camera";
  find("camera").setAttribute("aria-pressed", "false");
}

async function runCamera() {
  let [frames, since] = [0, performance.now()];
  // stopped and started again meanwhile, the camera has another loop
  const { session } = camera;
  const isOurs = () => camera.session === session;
  const ask = async () => {
    const frame = await camera.next();
    const start = performance.now();
    // a network that is being loaded comes first
    await work;
    if (!frame || !isOurs()) return void frame?.picture.close();
    const options = { refine: find("refine").checked, smooth: find("smooth").checked, mirrored: camera.isMirrored };
    return { start, ...(await client.ask("frame", { ...frame, ...options }, [frame.picture])) };
  };
  let asked = ask();
  try {
    for (let said = await asked; said; said = await asked) {
      // the worker computes the next frame while this one is drawn
      asked = ask();
      if (isOurs()) {
        painter.setFrame(said.picture, said);
        draw(said.times, said.start);
      }
      said.picture.close();
      frames++;
      const seconds = (performance.now() - since) / 1000;
      if (seconds < 1 || !isOurs()) continue;
      say(`${painter.width}×${painter.height}, ${(frames / seconds).toFixed(0)} frames a second.`);
      [frames, since] = [0, performance.now()];
    }
  } catch (error) {
    asked.then((said) => said?.picture.close(), () => {});
    if (!isOurs()) return;
    stopCamera();
    complain(error);
  }
}

async function save(output) {
  forgive();
  let blob;
  if (output === "shown") {
    // what was drawn is kept until the browser shows it, no longer
    draw();
    blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  } else blob = await client.ask("png", { output });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${camera.isOn ? "camera" : fileName}-${output}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function setBackground(blob) {
  forgive();
  await checkPicture(blob);
  const side = Math.min(2048, painter.most);
  const whole = await createImageBitmap(blob);
  const factor = Math.min(1, side / Math.max(whole.width, whole.height));
  const size = { resizeWidth: Math.max(1, Math.round(whole.width * factor)), resizeQuality: "high" };
  const bitmap = factor < 1 ? await createImageBitmap(whole, size) : whole;
  painter.setPicture(bitmap);
  bitmap.close();
  whole.close();
  draw();
}

async function addOwn(file) {
  forgive();
  const entry = { name: file.name, title: file.name, content: new Uint8Array(await file.arrayBuffer()), ...DEFAULTS };
  networks.push(entry);
  find("network").append(new Option(`${file.name} (yours)`));
  find("network").selectedIndex = networks.length - 1;
  try {
    await loadNetwork();
  } catch (error) {
    find("network").remove(networks.indexOf(entry));
    networks.splice(networks.indexOf(entry), 1);
    throw error;
  }
  await segmentAgain();
}

function listen() {
  const pick = (input, use) => input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = "";
    if (file) then(() => use(file, file.name));
  });
  pick(find("file"), open);
  pick(find("background"), setBackground);
  pick(find("own"), addOwn);
  find("camera").addEventListener("click", () => (camera.isOn ? stopCamera() : then(startCamera)));
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => then(() => save(button.dataset.save)));
  for (const id of ["network", "engine", "refine"]) {
    find(id).addEventListener("change", () => {
      forgive();
      then(async () => {
        await loadNetwork();
        await segmentAgain();
      });
    });
  }
  controls.addEventListener("input", () => {
    controls.dataset.shown = look();
    draw();
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  split.addEventListener("input", () => {
    draw();
    placeHandle();
  });
  new ResizeObserver(placeHandle).observe(canvas);
  const slide = (event) => {
    if (event.buttons === 0) return;
    const box = canvas.getBoundingClientRect();
    split.value = ((event.clientX - box.left) / box.width) * 100;
    draw();
    placeHandle();
  };
  canvas.addEventListener("pointerdown", slide);
  canvas.addEventListener("pointermove", slide);
  listenForFiles();
}

function listenForFiles() {
  const take = (transfer) => {
    const [file] = transfer?.files ?? [];
    if (file) then(() => (file.name.endsWith(".tflite") ? addOwn(file) : open(file, file.name)));
    return file !== undefined;
  };
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    if (!take(event.dataTransfer)) complain(new Refusal("That was no file: save the picture first, then drop the file."));
  });
  document.addEventListener("paste", (event) => {
    if (take(event.clipboardData)) event.preventDefault();
    else complain(new Refusal("There is no picture on the clipboard."));
  });
}

async function begin() {
  const response = await fetch("networks.json");
  const { networks: known, samples, about } = await response.json();
  networks = known;
  find("network").append(...known.map(({ title }) => new Option(title)));
  find("network").selectedIndex = Math.max(0, known.findIndex((entry) => entry.isDefault));
  find("about").textContent = about;
  find("samples").append(...samples.map((url, i) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(Object.assign(new Image(), { src: url, alt: `Sample portrait ${i + 1}, drawn by a program` }));
    button.addEventListener("click", () => then(async () => open(await (await fetch(url)).blob(), `sample-${i + 1}`)));
    return button;
  }));
  if (!navigator.gpu) {
    const option = find("engine").options[1];
    option.disabled = true;
    option.textContent += ": not in this browser";
  }
  painter = new Painter(canvas);
  client = new Client();
  listen();
  await loadNetwork();
}

canvas.addEventListener("webglcontextlost", (event) => {
  event.preventDefault();
  complain(new Error("The graphics driver was reset: load the page again."));
});
controls.dataset.shown = look();
then(begin);
