/** The page in headless Chromium: photos, what goes wrong, and the keyboard. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { PATIENCE, alert, facesOf, idle, launch, missing, serve, site, summary } from "./browser.js";
import { folder, json } from "./vectors.js";

/** @import { Browser, Page } from "playwright-core" */

/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  if (missing) return;
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.stop();
});

/**
 * @param {string} name
 * @param {(page: Page, requests: string[]) => Promise<void>} body
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
function onPage(name, body, options = {}) {
  test(name, { skip: missing, timeout: 3 * PATIENCE }, async (t) => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    /** @type {string[]} */
    const requests = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("pageerror", (error) => assert.fail(`${t.name}: ${error}`));
    await page.goto(server.url);
    await summary(page, /Ready|No model/);
    await body(page, requests);
    await context.close();
  });
}

/**
 * @param {number[]} a
 * @param {number[]} b
 */
function overlap(a, b) {
  const side = (/** @type {number} */ i) => Math.max(0, Math.min(a[i + 2], b[i + 2]) - Math.max(a[i], b[i]));
  const area = (/** @type {number[]} */ box) => (box[2] - box[0]) * (box[3] - box[1]);
  const shared = side(0) * side(1);
  return shared / (area(a) + area(b) - shared);
}

onPage("photos have the faces that Python's LiteRT runtime finds, float32 and int8", async (page, requests) => {
  await page.selectOption("#longest", "2048");
  const expected = json("expected.json");
  for (const model of Object.keys(expected)) {
    await page.selectOption("#model", model);
    for (const [picture, faces] of /** @type {[string, any[]][]} */ (Object.entries(expected[model]))) {
      const found = (await facesOf(page, join(folder, "pictures", picture))).filter(({ score }) => score >= 0.5);
      assert.equal(found.length, faces.length, `${model} ${picture}`);
      const overlaps = faces.map(({ box }, i) => overlap(box, found[i].box));
      const points = faces.map(({ landmarks }, i) =>
        Math.max(...landmarks.flat().map((/** @type {number} */ value, /** @type {number} */ k) => Math.abs(value - found[i].landmarks.flat()[k]))),
      );
      const vertices = faces.map(({ vertices = [] }, i) => {
        const own = (found[i].vertices ?? []).flat();
        assert.equal(own.length, vertices.flat().length);
        return Math.max(0, ...own.map((/** @type {number} */ value, /** @type {number} */ k) => Math.abs(value - vertices.flat()[k])));
      });
      assert.ok(Math.max(0, ...vertices) < 0.01, `${model} ${picture}: vertices off by ${Math.max(...vertices)}`);
      assert.equal(await page.locator("#mesh-label").isVisible(), model === "dense");
      const scores = faces.map(({ score }, i) => Math.abs(score - found[i].score));
      console.log(
        `${model} ${picture}: ${faces.length} faces, least IoU ${Math.min(1, ...overlaps).toFixed(5)}, ` +
          `points within ${Math.max(0, ...points).toFixed(3)} px, scores within ${Math.max(0, ...scores).toExponential(1)}; ` +
          `${await page.locator("#latency").textContent()}`,
      );
      assert.ok(overlaps.every((value) => value >= 0.99), `${model} ${picture}: ${overlaps}`);
    }
  }
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  assert.deepEqual(
    requests.filter((url) => !url.startsWith(server.url) && !url.startsWith("blob:") && !url.startsWith("data:")),
    [],
    "nothing is asked of another host",
  );
});

onPage("small faces are looked at more closely where that is chosen", async (page) => {
  const expected = json("closer.json");
  const found = { off: await facesOf(page, join(folder, "far.png")), auto: [] };
  await page.locator("#closer").check();
  await idle(page);
  found.auto = await page.evaluate(() => /** @type {any} */ (globalThis).retinaface.shown.faces);
  for (const way of /** @type {const} */ (["off", "auto"])) {
    assert.equal(found[way].length, expected[way].length, way);
    expected[way].forEach((/** @type {any} */ face, /** @type {number} */ i) => {
      assert.ok(overlap(face.box, found[way][i].box) > 0.97, `${way}: ${face.box} and ${found[way][i].box}`);
      assert.ok(Math.abs(face.score - found[way][i].score) < 0.02, `${way}: ${face.score} and ${found[way][i].score}`);
    });
  }
  const sure = (/** @type {any[]} */ faces) => faces.filter(({ score }) => score > 0.9).length;
  assert.ok(sure(found.auto) > sure(found.off), `${sure(found.auto)} sure, ${sure(found.off)} before`);
});

onPage("the score slider and the switches need no new search", async (page) => {
  const faces = await facesOf(page, join(folder, "pictures", "crowd.png"));
  const text = await page.locator("#latency").textContent();
  for (const least of ["0.1", "0.5", "0.95"]) {
    await page.locator("#threshold").fill(least);
    const count = faces.filter(({ score }) => score >= Number(least)).length;
    assert.match((await page.locator("#summary").textContent()) ?? "", new RegExp(`^${count || "No"} face`));
    assert.equal(await page.locator("#faces li").count(), count);
  }
  const drawn = () =>
    page.evaluate(() => {
      const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("overlay"));
      const { data } = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).getImageData(0, 0, canvas.width, canvas.height);
      return data.reduce((sum, value, i) => sum + Number(i % 4 === 3 && value > 0), 0);
    });
  await page.locator("#threshold").fill("0.5");
  const both = await drawn();
  await page.locator("#points").uncheck();
  const boxes = await drawn();
  await page.locator("#boxes").uncheck();
  assert.ok(both > boxes && boxes > 0);
  assert.equal(await drawn(), 0);
  assert.equal(await page.locator("#latency").textContent(), text);
  assert.equal(await page.locator("#mesh-label").isVisible(), false, "this model has no mesh");
});

onPage("faces are blurred on the page, and the photo is saved so", async (page) => {
  const [face] = await facesOf(page, join(folder, "pictures", "astronaut.png"));
  const pixels = () =>
    page.evaluate((box) => {
      const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("picture"));
      const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      const [left, top, right, bottom] = box.map(Math.round);
      const grey = (/** @type {Uint8ClampedArray} */ data) => Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 1]);
      const width = right - left;
      const inside = grey(context.getImageData(left, top, width, bottom - top).data);
      const steps = inside.map((value, i) => (i % width ? Math.abs(value - inside[i - 1]) : 0));
      return { roughness: steps.reduce((sum, step) => sum + step, 0) / steps.length, corner: grey(context.getImageData(0, 0, 50, 50).data) };
    }, face.box);
  const sharp = await pixels();
  await page.locator("#blurred").check();
  const blurred = await pixels();
  assert.ok(blurred.roughness < sharp.roughness / 3, `${blurred.roughness} of ${sharp.roughness}`);
  assert.deepEqual(blurred.corner, sharp.corner);
  await page.locator("#blurred").uncheck();
  assert.deepEqual(await pixels(), sharp);
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save").click()]);
  assert.equal(download.suggestedFilename(), "astronaut-blurred.png");
  // The saved file, shown again: its face is as blurred.
  await page.setInputFiles("#photo", { name: "again.png", mimeType: "image/png", buffer: readFileSync(await download.path()) });
  await idle(page);
  assert.deepEqual(await pixels(), blurred);
});

onPage("a file that is no picture is named, and the page goes on", async (page) => {
  const files = { "notes.jpg": "these are words", "empty.png": "", "cut.png": readFileSync(join(folder, "pictures/astronaut.png")).subarray(0, 300) };
  for (const [name, content] of Object.entries(files)) {
    await page.setInputFiles("#photo", { name, mimeType: "image/jpeg", buffer: Buffer.from(content) });
    await page.waitForFunction((file) => document.getElementById("error")?.textContent?.startsWith(file), name);
    assert.match(await alert(page), /choose (a JPEG|another file)[^.]*\.$/);
  }
  assert.equal((await facesOf(page, join(folder, "pictures", "astronaut.png"))).length >= 1, true);
  assert.equal(await page.locator("#error").isVisible(), false);
});

onPage("a damaged model is refused and the one before it stays", async (page) => {
  const whole = readFileSync(join(site, "models", "float32.tflite"));
  const cut = { name: "cut.tflite", mimeType: "application/octet-stream", buffer: whole.subarray(0, 900_000) };
  await page.setInputFiles("#own", cut);
  assert.match(await alert(page), /^cut\.tflite .*(damaged|cut off).*again\.$/);
  assert.equal(await page.locator("#model").inputValue(), "float32");
  assert.equal((await facesOf(page, join(folder, "pictures", "astronaut.png"))).length >= 1, true);
  await page.setInputFiles("#own", { ...cut, name: "mine.tflite", buffer: whole });
  await idle(page);
  assert.equal(await page.locator("#error").isVisible(), false);
  assert.equal(await page.locator("#model").inputValue(), "mine.tflite");
});

onPage("a model whose graph is broken is refused, and the next search runs again", async (page) => {
  const content = readFileSync(join(site, "models", "float32.tflite"));
  const seal = content.indexOf('_sha256": "') + '_sha256": "'.length;
  content.fill(0x55, content.length - 30_000); // among tables and shapes
  content.write("0".repeat(64), seal);
  content.write(createHash("sha256").update(content).digest("hex"), seal);
  await page.setInputFiles("#own", { name: "broken.tflite", mimeType: "application/octet-stream", buffer: content });
  assert.match(await alert(page), /^LiteRT could not run the model .* another model; if that does not help, reload the page\.$/);
  assert.equal(await page.locator("#model").inputValue(), "float32");
  assert.equal((await facesOf(page, join(folder, "pictures", "astronaut.png"))).length >= 1, true);
});

onPage("a photo is dropped on the page", async (page) => {
  const content = readFileSync(join(folder, "pictures", "astronaut.png")).toString("base64");
  await page.evaluate((text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
    document.getElementById("stage")?.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
  }, content);
  assert.match((await summary(page, /found/)) ?? "", /^1 face found/);
});

onPage("everything is reached and worked by the keyboard, and has a name", async (page) => {
  const reached = [];
  for (let i = 0; i < 15; i++) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.tagName.toLowerCase()));
  }
  for (const id of ["photo", "camera", "model", "longest", "threshold", "boxes", "points", "summary"]) {
    assert.ok(reached.includes(id), `${id} among ${reached}`);
  }
  await page.locator("#threshold").focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("#least").textContent(), "0.55");
  const snapshot = await page.locator("body").ariaSnapshot();
  for (const line of [/button "Choose a photo"/, /button "Use the camera"/, /combobox "Model"/, /combobox "Search at"/, /slider "Score at least/, /checkbox "boxes"/, /status/]) {
    assert.match(snapshot, line);
  }
  await page.locator("#camera").focus();
  await page.keyboard.press("Enter");
  assert.match(await alert(page), /camera/i);
});

onPage("text has contrast, and nothing sticks out of a phone's screen", async (page) => {
  await facesOf(page, join(folder, "pictures", "large.png"));
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    const contrasts = await page.evaluate(() => {
      const channels = (/** @type {string} */ color) => (color.match(/[\d.]+/g) ?? []).map(Number);
      const luminance = (/** @type {number[]} */ rgb) =>
        rgb
          .slice(0, 3)
          .map((value) => (value / 255 <= 0.03928 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4))
          .reduce((sum, value, i) => sum + [0.2126, 0.7152, 0.0722][i] * value, 0);
      const behind = (/** @type {Element | null} */ node) => {
        for (; node; node = node.parentElement) {
          const color = channels(getComputedStyle(node).backgroundColor);
          if (color.length === 3 || color[3] > 0) return color;
        }
        return [255, 255, 255];
      };
      return [...document.querySelectorAll("p, label, button, summary, select, legend, output, h1")]
        .filter((node) => /** @type {HTMLElement} */ (node).offsetParent && node.textContent?.trim())
        .map((node) => {
          const [a, b] = [luminance(channels(getComputedStyle(node).color)), luminance(behind(node))];
          return [node.id || node.textContent?.trim().slice(0, 20), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
        });
    });
    assert.ok(contrasts.length > 8);
    for (const [name, contrast] of contrasts) assert.ok(Number(contrast) >= 4.5, `${name}: ${contrast} (${colorScheme})`);
  }
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  const small = await page.locator("button, .button, select").evaluateAll((nodes) =>
    nodes.filter((node) => node.getClientRects().length && node.getBoundingClientRect().height < 40).map((node) => node.textContent),
  );
  assert.deepEqual(small, [], "too small for a finger");
}, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });

test("screenshots", { skip: missing || !process.env.RETINAFACE_SHOTS, timeout: 3 * PATIENCE }, async () => {
  const shots = /** @type {string} */ (process.env.RETINAFACE_SHOTS);
  mkdirSync(shots, { recursive: true });
  for (const [name, options] of /** @type {const} */ ([
    ["desktop", { viewport: { width: 1280, height: 900 } }],
    ["phone", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: "dark" }],
  ])) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(server.url);
    await summary(page, /Ready/);
    for (const picture of ["astronaut", "crowd", "mesh"]) {
      if (picture === "mesh") await page.selectOption("#model", "dense");
      await facesOf(page, join(folder, "pictures", `${picture === "mesh" ? "crowd" : picture}.png`));
      writeFileSync(join(shots, `${name}-${picture}.png`), await page.screenshot({ fullPage: true }));
    }
    await context.close();
  }
});
