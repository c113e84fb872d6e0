// What tests do inside the page: each function is sent there as it is, with its arguments as one list.

export function choose([name]) {
  const list = document.querySelector("#network");
  list.selectedIndex = [...list.options].findIndex((option) => option.textContent.startsWith(name));
  list.dispatchEvent(new Event("change"));
}

export function focus([selector]) {
  document.querySelector(selector).focus();
}

export function value([selector]) {
  return document.querySelector(selector).value;
}

export function look() {
  return document.querySelector("#controls").dataset.shown;
}

export function focused() {
  const node = document.activeElement;
  return node.id || node.value || node.textContent.trim();
}

/** Tries to reach another address, and to run what is not the page's own. */
export async function trespass([other]) {
  const violated = [];
  document.addEventListener("securitypolicyviolation", (event) => violated.push(event.effectiveDirective));
  const add = (name, fields) => document.body.append(Object.assign(document.createElement(name), fields));
  add("script", { src: `${other}x.js` });
  add("script", { textContent: "window.inline = true;" });
  add("img", { src: `${other}x.png` });
  add("iframe", { src: other });
  const works = (promise) => promise.then(() => true, () => false);
  const fetched = await works(fetch(`${other}x.js`));
  const sent = await works(fetch(other, { method: "POST", body: "a photo" }));
  await new Promise((done) => setTimeout(done, 300));
  const { foreign = false, inline = false } = window;
  return { violated, fetched, sent, foreign, inline };
}

/** The page's stream, for `unplug`. */
export function keepStream() {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wish) => (window.stream = await ask(wish));
}

/** Counts the bitmaps that are made of the video; before, what a browser lacks or a camera turns. */
export function watchFrames([way]) {
  if (way === "no tracks") delete window.MediaStreamTrackProcessor;
  if (way === "turned") Object.defineProperty(VideoFrame.prototype, "rotation", { get: () => 90 });
  const make = window.createImageBitmap.bind(window);
  window.made = 0;
  window.createImageBitmap = (...rest) => {
    window.made++;
    return make(...rest);
  };
}

export function bitmapsMade() {
  return window.made;
}

export function unplug() {
  const [track] = window.stream.getVideoTracks();
  track.stop();
  track.dispatchEvent(new Event("ended"));
}

/** A sample portrait (or nothing) dropped or pasted. */
export async function bring([kind, url]) {
  const transfer = new DataTransfer();
  if (url) transfer.items.add(new File([await (await fetch(url)).blob()], "brought.jpg", { type: "image/jpeg" }));
  const fields = { bubbles: true, cancelable: true };
  const drop = () => new DragEvent("drop", { ...fields, dataTransfer: transfer });
  const paste = () => new ClipboardEvent("paste", { ...fields, clipboardData: transfer });
  document.dispatchEvent(kind === "drop" ? drop() : paste());
}

/** Coefficients → alpha on the GPU against refine.mjs on the CPU: share of pixels flipped, mean difference. */
export async function compareShader() {
  const [{ Painter }, mask, edges] = await Promise.all([import("/shader.mjs"), import("/mask.mjs"), import("/refine.mjs")]);
  const blob = await (await fetch("samples/1.jpg")).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const pixels = (source) => {
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(source, 0, 0);
    return context.getImageData(0, 0, width, height);
  };
  const image = pixels(bitmap);
  const plane = { data: new Float32Array(65536), width: 256, height: 256 };
  for (let i = 0; i < 65536; i++) {
    plane.data[i] = 1 / (1 + Math.exp((Math.hypot((i % 256) - 128, (i >> 8) - 150) - 90) / 6));
  }
  const settings = { side: 128, radius: 2, epsilon: 1e-3, specks: 0 };
  const found = edges.coefficients(mask.resizeImage(image, 256, 256), plane, settings);
  const expected = edges.shape(edges.apply(found, image), 0.1, 0.9).data;
  const canvas = document.createElement("canvas");
  const painter = new Painter(canvas);
  painter.setFrame(bitmap, { found });
  const compare = (options) => {
    painter.draw({ look: "alpha", color: [0, 0, 0], low: 0.1, high: 0.9, ...options });
    const drawn = pixels(canvas).data;
    let [flipped, sum] = [0, 0];
    for (let i = 0; i < expected.length; i++) {
      flipped += drawn[i * 4] > 127 !== expected[i] > 0.5;
      sum += Math.abs(drawn[i * 4] / 255 - expected[i]);
    }
    return [flipped / expected.length, sum / expected.length];
  };
  return { right: compare({}), mirrored: compare({ mirrored: true }), rough: compare({ low: 0, high: 1 }) };
}

/** Contrast of text to its ground (WCAG 2), and how far the page is wider than its window. */
export function measureLayout() {
  const light = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((byte) => {
      const part = byte / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return color.endsWith(", 0)") ? ground(node.parentElement) : color;
  };
  const contrast = (selector) => {
    const node = document.querySelector(selector);
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  document.querySelector("#message").hidden = false;
  const names = ["h1", "header p", "#status", ".button", "#camera", "legend", ".note", "#message", "caption", "#hint"];
  return { contrasts: names.map(contrast), over: document.documentElement.scrollWidth - innerWidth };
}
