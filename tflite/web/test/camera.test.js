/** The camera: a stream that runs without growing, and cameras that cannot be had. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { PATIENCE, alert, facesOf, launch, missing, serve, summary } from "./browser.js";
import { folder } from "./vectors.js";

const FRAMES = Number(process.env.RETINAFACE_FRAMES ?? 120);
const EVERY = 20;

test("a stream of frames runs without growing memory", { skip: missing, timeout: 3 * PATIENCE }, async () => {
  const server = await serve();
  const browser = await launch([
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    `--use-file-for-fake-video-capture=${join(folder, "stream.y4m")}`,
    "--js-flags=--expose-gc",
  ]);
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(server.url);
    await summary(page, /Ready/);
    await page.locator("#camera").click();
    const client = await page.context().newCDPSession(page);
    const rows = [];
    for (let frame = EVERY; frame <= FRAMES; frame += EVERY) {
      await page.waitForFunction((least) => Number(document.body.dataset.frames) >= least, frame);
      await client.send("HeapProfiler.collectGarbage");
      await page.workers()[0].evaluate(() => /** @type {any} */ (globalThis).gc());
      const wasm = await page.evaluate(() => /** @type {any} */ (globalThis).retinaface.memory());
      const heap = await page.evaluate(() => /** @type {any} */ (performance).memory.usedJSHeapSize);
      rows.push({ frame: Number(await page.evaluate(() => document.body.dataset.frames)), wasm, heap, resident: resident() });
    }
    const mega = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1).padStart(8);
    console.log("   frame WebAssembly page's objects whole process, MB");
    for (const { frame, wasm, heap, resident } of rows) {
      console.log(`${String(frame).padStart(8)}    ${mega(wasm)}       ${mega(heap)}      ${mega(resident)}`);
    }
    console.log(`${await page.locator("#latency").textContent()}`);
    assert.match((await page.locator("#summary").textContent()) ?? "", /^1 face found/);
    assert.ok(rows.length >= 5);
    assert.deepEqual(await page.evaluate(lookAtOverlay), { top: "overlay", mirrored: true, drawn: true });
    const [, second] = rows;
    const last = rows[rows.length - 1];
    assert.equal(last.wasm, second.wasm, "WebAssembly's memory");
    assert.ok(last.heap - second.heap < 1e6, "JavaScript's objects in the page");
    // A frame is 1.2 MB: one kept of every three would show.
    assert.ok(last.resident - second.resident < 40e6, "the process as a whole, worker included");
    if (process.env.RETINAFACE_SHOTS) writeFileSync(join(process.env.RETINAFACE_SHOTS, "camera.png"), await page.screenshot());
    await page.locator("#camera").click();
    await summary(page, /camera is off/);
    assert.equal(await page.locator("#video").isVisible(), false);
    assert.ok((await facesOf(page, join(folder, "pictures", "astronaut.png"))).length);
  } finally {
    await browser.close();
    server.stop();
  }
});

/** What lies on top of the stage, and whether the first face's left edge is drawn, mirrored. */
function lookAtOverlay() {
  const overlay = /** @type {HTMLCanvasElement} */ (document.getElementById("overlay"));
  const { left, top, width, height } = overlay.getBoundingClientRect();
  const mirrored = Boolean(document.getElementById("video")?.classList.contains("mirrored"));
  const [x1, y1, , y2] = /** @type {any} */ (globalThis).retinaface.shown.faces[0].box;
  const x = Math.round(mirrored ? overlay.width - x1 : x1);
  const context = /** @type {CanvasRenderingContext2D} */ (overlay.getContext("2d"));
  const { data } = context.getImageData(x - 1, Math.round((y1 + y2) / 2), 2, 1);
  return {
    top: document.elementFromPoint(left + width / 2, top + height / 2)?.id,
    mirrored,
    drawn: data[3] > 0 && data[1] > data[0],
  };
}

/** Bytes in memory of the largest renderer process of this test's browsers. */
function resident() {
  const lines = execFileSync("ps", ["-eo", "rss,ppid,args"], { encoding: "utf8", maxBuffer: 1 << 26 }).split("\n");
  const renderers = lines.filter((line) => line.includes("--type=renderer") && line.includes("playwright"));
  return Math.max(0, ...renderers.map((line) => 1024 * Number(line.trim().split(/\s+/)[0])));
}

test("a camera that is refused or missing is a sentence with what to do", { skip: missing, timeout: 3 * PATIENCE }, async () => {
  const server = await serve();
  /** @type {[string[], RegExp][]} */
  const cases = [
    [["--use-fake-device-for-media-stream", "--deny-permission-prompts"], /^The camera is not allowed: permit it .* try again\.$/],
    [["--use-fake-ui-for-media-stream"], /^No camera was found: connect one.* choose a photo\.$/],
  ];
  for (const [flags, message] of cases) {
    const browser = await launch(flags);
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(server.url);
    await summary(page, /Ready/);
    await page.locator("#camera").click();
    assert.match(await alert(page), message);
    assert.equal(await page.locator("#camera").textContent(), "Use the camera");
    assert.ok((await facesOf(page, join(folder, "pictures", "astronaut.png"))).length, "photos still work");
    await browser.close();
  }
  server.stop();
});

test("a page that is neither https nor localhost says why it has no camera", { skip: missing, timeout: 3 * PATIENCE }, async () => {
  const server = await serve();
  const browser = await launch(["--host-resolver-rules=MAP faces.example 127.0.0.1"]);
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(server.url.replace("localhost", "faces.example"));
  await summary(page, /Ready/);
  assert.equal(await page.evaluate(() => document.body.dataset.threads), "1");
  await page.locator("#camera").click();
  assert.match(await alert(page), /https pages and to localhost alone/);
  assert.ok((await facesOf(page, join(folder, "pictures", "astronaut.png"))).length, "photos still work, on one thread");
  await browser.close();
  server.stop();
});
