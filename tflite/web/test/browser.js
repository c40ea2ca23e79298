/** A real Chromium, the page served as people serve it, and the files a test needs. */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** @import { Page } from "playwright-core" */

const HERE = new URL("..", import.meta.url).pathname;
const CANDIDATES = [process.env.CHROMIUM ?? "", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
/** Milliseconds for anything that a test waits for: its machine may be slow, or stand still for a while. */
export const PATIENCE = 300_000;
const executablePath = CANDIDATES.find((path) => path && existsSync(path)) ?? "";

// A graphics process, as browsers of people have one. Without it Chromium keeps a copy of each of the
// last some 800 video frames that were drawn: memory that grows for a while, whatever the page does.
const DRAWING = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"];

/** Folder that serve.py wrote; `tests/web` gives one of its own. */
export const site = process.env.RETINAFACE_SITE ?? join(HERE, "dist");
export const missing = !existsSync(site)
  ? "RETINAFACE_SITE names no folder; serve.py and pytest tests/web write one"
  : !executablePath && "there is no Chromium (apt-get install chromium)";

/**
 * @param {string[]} [flags]
 */
export function launch(flags = []) {
  const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"];
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-sync", "--enable-precise-memory-info", ...DRAWING, ...quiet, ...flags],
  });
}

/** Starts serve.py; gives its address and how to stop it. */
export async function serve() {
  const server = spawn(process.env.PYTHON ?? "python3", [join(HERE, "serve.py"), "--out", site, "--port", "0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await new Promise((resolve, reject) => {
    server.stdout.on("data", (text) => {
      const found = /https?:\S+/.exec(String(text));
      if (found) resolve(found[0]);
    });
    server.on("exit", (code) => reject(new Error(`serve.py ended with ${code}`)));
  });
  return { url, stop: () => server.kill() };
}

/**
 * Text of the page's summary, once it is of the kind waited for.
 *
 * @param {Page} page
 * @param {RegExp} pattern
 */
export async function summary(page, pattern) {
  const text = page.locator("#summary").filter({ hasText: pattern });
  await text.waitFor({ timeout: PATIENCE });
  return text.textContent();
}

/**
 * The sentence in the page's alert.
 *
 * @param {Page} page
 */
export async function alert(page) {
  await page.locator("#error:not([hidden])").waitFor({ timeout: PATIENCE });
  return (await page.locator("#error").textContent()) ?? "";
}

/**
 * Waits for what was asked of the page.
 *
 * @param {Page} page
 */
export async function idle(page) {
  await page.evaluate(() => /** @type {any} */ (globalThis).retinaface.idle());
}

/**
 * Chooses a photo and gives the faces found in it.
 *
 * @param {Page} page
 * @param {string} file
 * @returns {Promise<{box: number[], score: number, landmarks: number[][], vertices?: number[][]}[]>}
 */
export async function facesOf(page, file) {
  await page.setInputFiles("#photo", file);
  await idle(page);
  await summary(page, /found/);
  return page.evaluate(() => /** @type {any} */ (globalThis).retinaface.shown.faces);
}
