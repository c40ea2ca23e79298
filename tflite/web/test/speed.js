/**
 * Time from a picture to its faces in headless Chromium: `npm run speed`, after serve.py ran once.
 * The models take turns, one thread and all threads, so compare the rows of one run.
 */

import { launch, serve } from "./browser.js";

const ROUNDS = 60;
const server = await serve();
const browser = await launch(["--host-resolver-rules=MAP faces.example 127.0.0.1"]);
console.log("model      threads   size        least ms  median ms  of it network");
for (const host of ["faces.example", "localhost"]) {
  const page = await browser.newPage(); // a page that is neither https nor localhost has one thread
  await page.goto(server.url.replace("localhost", host));
  for (const [width, height] of [[320, 240], [640, 480], [1280, 960]]) {
    const rows = await page.evaluate(measure, { width, height, rounds: ROUNDS });
    for (const { name, threads, least, median, network } of rows) {
      const size = `${width}x${height}`.padEnd(10);
      const times = [least, median, network].map((time) => time.toFixed(1).padStart(9)).join(" ");
      console.log(`${name.padEnd(10)} ${String(threads).padStart(4)}     ${size} ${times}`);
    }
  }
  await page.close();
}
await browser.close();
server.stop();

/** @param {{width: number, height: number, rounds: number}} options */
async function measure({ width, height, rounds }) {
  const { Engine } = await import(/** @type {any} */ ("./src/engine.js"));
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "tan";
  context.fillRect(width / 4, height / 4, width / 2, height / 2);
  const models = await (await fetch("models/models.json")).json();
  const runs = [];
  for (const { name, file } of models) {
    const engine = new Engine();
    const { threads } = await engine.open(new Uint8Array(await (await fetch(`models/${file}`)).arrayBuffer()), name);
    runs.push({ name, engine, threads, all: /** @type {number[]} */ ([]), network: /** @type {number[]} */ ([]) });
  }
  for (let round = -8; round < rounds; round++) {
    for (const { engine, all, network } of runs) {
      const bitmap = await createImageBitmap(canvas);
      const begun = performance.now();
      const { milliseconds } = await engine.detect(bitmap, 2048, 0.5, false);
      if (round < 0) continue; // the browser still compiles
      all.push(performance.now() - begun);
      network.push(milliseconds.network);
    }
  }
  const median = (/** @type {number[]} */ times) => times.toSorted((a, b) => a - b)[times.length >> 1];
  return runs.map(({ name, threads, all, network }) => ({
    name,
    threads,
    least: Math.min(...all),
    median: median(all),
    network: median(network),
  }));
}
