// Drives the page in headless Chromium: `node driver.mjs JOB.json`; what it saw goes to `seen.json` in the job's folder.
// A job is {packages, chromium, url, folder, flags, context, permissions, steps}; a step is [name, …] of STEPS.

import { createRequire } from "node:module";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import * as inPage from "./in_page.mjs";

const job = JSON.parse(await readFile(process.argv[2], "utf8"));
const { chromium } = createRequire(path.join(job.packages, "package.json"))("playwright-core");
const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
// software on purpose: the same on every machine
const graphics = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];
const browser = await chromium.launch({ executablePath: job.chromium, args: [...graphics, ...sandbox, ...(job.flags ?? [])] });
const context = await browser.newContext({ acceptDownloads: true, ...job.context });
await context.grantPermissions(job.permissions ?? [], { origin: job.url });
const page = await context.newPage();
const seen = { requests: [], console: [], states: [], results: [] };
context.on("request", (request) => seen.requests.push(request.url()));
page.on("console", (message) => seen.console.push(message.text()));
page.on("pageerror", (error) => seen.console.push(`pageerror: ${error.message}`));

// no waitForFunction: the page's policy forbids the eval that it needs
const idle = () => page.locator('#stage[aria-busy="false"]').waitFor({ timeout: 120_000 });
const text = async (selector) => ((await page.locator(selector).isVisible()) ? await page.locator(selector).textContent() : "");

const STEPS = {
  async open() {
    await page.goto(job.url);
    await idle();
  },
  async file(selector, ...paths) {
    await page.setInputFiles(selector, paths);
    await idle();
  },
  async press(selector) {
    await page.click(selector);
    await idle();
  },
  /** A radio button or a box, which the keyboard reaches. */
  async check(selector, on = true) {
    await page.setChecked(selector, on);
    await idle();
  },
  async select(selector, label) {
    await page.selectOption(selector, label);
    await idle();
  },
  async save(output, target) {
    const arrives = page.waitForEvent("download");
    await page.click(`[data-save="${output}"]`);
    await (await arrives).saveAs(target);
    await idle();
  },
  async set(selector, value) {
    await page.locator(selector).fill(String(value));
    await idle();
  },
  async keys(...keys) {
    for (const key of keys) await page.keyboard.press(key);
    await idle();
  },
  async wait(ms) {
    await page.waitForTimeout(ms);
  },
  /** A function of in_page.mjs. */
  async call(name, ...rest) {
    seen.results.push(await page.evaluate(inPage[name], rest));
    await idle();
  },
  async screenshot(target) {
    await page.screenshot({ path: target, fullPage: true });
  },
  async size(width, height) {
    await page.setViewportSize({ width, height });
  },
  async look(...media) {
    await page.emulateMedia({ colorScheme: media[0] });
  },
  async state() {
    const times = await page.evaluate('Object.fromEntries([...document.querySelectorAll("#times tr")].map((r) => [r.cells[0].textContent, Number(r.cells[1].textContent)]))');
    const [message, status, note] = [await text("#message"), await text("#status"), await text("#engine-note")];
    const network = await page.evaluate('document.querySelector("#network").value');
    const engine = await page.evaluate('document.querySelector("#engine").value');
    seen.states.push({ message, status, note, times, network, engine });
  },
};

let code = 0;
try {
  for (const [name, ...rest] of job.steps) await STEPS[name](...rest);
} catch (error) {
  seen.error = error.message;
  code = 1;
}
await writeFile(path.join(job.folder, "seen.json"), JSON.stringify(seen));
await browser.close();
process.exit(code);
