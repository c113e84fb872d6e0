// Opens a page on loopback in headless Chromium, runs one file in it, and prints what the browser's console says.
// `node driver.mjs JOB.json…`; a job is what portraitseg/checks/gpu/web.py writes. Exit 3: there is no browser to run. Several jobs of one
// library share the browser, each with a page of its own, and the console of each is in `console.log` beside it.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const OUTPUT = /^\/output\/(\d+_\d+)$/;

// the bare name that one of the modules imports
const PAGE = `<!doctype html><link rel="icon" href="data:,"><script type="importmap">
{"imports": {"@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js"}}</script>`;

const FLAGS = {
  mediapipe: ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
  litert: ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader"],
};

const paths = process.argv.slice(2);
let job = await readJob(paths[0]);
const { chromium } = createRequire(path.join(job.packages, "package.json"))("playwright-core");

/** The file behind an address; undefined for what no page of ours asks for. */
function locate(address) {
  if (address === "/model") return job.model;
  if (address === "/page.mjs") return path.join(import.meta.dirname, "page.mjs");
  if (/^\/input\/\d+$/.test(address)) return path.join(job.folder, `input_${path.basename(address)}.bin`);
  const file = path.join(job.packages, path.normalize(address));
  return file.startsWith(path.join(job.packages, "node_modules") + path.sep) ? file : undefined;
}

async function receive(request, name) {
  const parts = [];
  for await (const part of request) parts.push(part);
  await writeFile(path.join(job.folder, `output_${name}.bin`), Buffer.concat(parts));
}

async function answer(request, response) {
  try {
    const output = request.method === "PUT" && request.url.match(OUTPUT);
    if (output) await receive(request, output[1]);
    const file = output || request.url === "/" ? undefined : locate(request.url);
    const body = output ? "" : request.url === "/" ? PAGE : await readFile(file);
    response.writeHead(200, { "content-type": TYPES[path.extname(file ?? "page.html")] ?? "application/octet-stream" });
    response.end(body);
  } catch {
    await say(`not served: ${request.url}`);
    response.writeHead(404);
    response.end();
  }
}

async function launch() {
  // Chromium's sandbox refuses to run as root
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  try {
    return await chromium.launch({ executablePath: job.chromium, args: [...FLAGS[job.library], ...sandbox], timeout: 0 });
  } catch (error) {
    console.log(`no browser: ${job.chromium} does not start: ${error.message.split("\n")[0]}`);
    process.exit(3);
  }
}

const server = createServer(answer);
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const browser = await launch();
let code = 0;
for (const path of paths) {
  job = await readJob(path);
  code = await runJob();
}
await browser.close();
server.close();
process.exit(code);

async function readJob(path) {
  return JSON.parse(await readFile(path, "utf8"));
}

/** Says a line of the page's console: on our own output, or, of one job among several, in a file beside it. */
async function say(text) {
  if (paths.length === 1) console.log(text);
  else await appendFile(path.join(job.folder, "console.log"), text + "\n");
}

async function runJob() {
  const page = await browser.newPage();
  page.on("console", (message) => say(message.text()));
  page.on("pageerror", (error) => say(`Error: ${error.message}`));
  try {
    // no limits of its own: whoever started this process has one
    await page.goto(`http://127.0.0.1:${server.address().port}/`, { timeout: 0 });
    const run = async (job) => (await import("/page.mjs")).run(job);
    const facts = await page.evaluate(`(${run})(${JSON.stringify(job)})`);
    await writeFile(path.join(job.folder, "facts.json"), JSON.stringify({ ...facts, browser: browser.version() }));
    return 0;
  } catch (error) {
    await say(`Error: ${error.message}`);
    return 1;
  } finally {
    if (paths.length > 1) await page.close();
  }
}
