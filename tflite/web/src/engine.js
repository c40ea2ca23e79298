/** The page's side of the worker that runs the network. */

import { ModelError } from "./errors.js";

/** @import { Metadata } from "./metadata.js" */
/** @import { Found } from "./worker.js" */

export class Engine {
  /** @type {Worker | undefined} */
  #worker;
  #next = 0;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  /** @type {{bytes: Uint8Array<ArrayBuffer>, name: string} | undefined} */
  #model;

  /**
   * Takes a model; the one before it stays when this one is refused.
   *
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {string} name what messages call it
   * @returns {Promise<{note: Metadata, threads: number}>}
   * @throws {ModelError}
   */
  async open(bytes, name) {
    const opened = await this.#ask("open", { bytes, name });
    this.#model = { bytes, name };
    return opened;
  }

  /**
   * @param {ImageBitmap} bitmap is given away
   * @param {number} longest longest side searched
   * @param {number} threshold
   * @param {boolean} closer look closer where faces are small
   * @returns {Promise<Found>}
   * @throws {ModelError}
   */
  async detect(bitmap, longest, threshold, closer) {
    if (!this.#worker && this.#model) await this.#ask("open", this.#model); // after a crash
    return this.#ask("detect", { bitmap, longest, threshold, closer }, [bitmap]);
  }

  /** @returns {Promise<number>} bytes of WebAssembly's memory */
  memory() {
    return this.#ask("memory", {});
  }

  /**
   * @param {string} task
   * @param {object} message
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  #ask(task, message, transfer = []) {
    this.#worker ??= this.#start();
    const id = this.#next++;
    this.#worker.postMessage({ id, task, ...message }, transfer);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #start() {
    const worker = new Worker(new URL("worker.js", import.meta.url));
    worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = /** @type {any} */ (this.#waiting.get(id));
      this.#waiting.delete(id);
      if (!error) resolve(result);
      else if (error.name === "ModelError") reject(new ModelError(error.message));
      else this.#crashed(reject, error.message);
    };
    worker.onerror = (event) => {
      const waiting = [...this.#waiting.values()];
      this.#waiting.clear();
      for (const { reject } of waiting) this.#crashed(reject, event.message ?? "its files did not load");
    };
    return worker;
  }

  /**
   * WebAssembly that failed once cannot be trusted again: the next question gets a new worker.
   *
   * @param {(error: Error) => void} reject
   * @param {string} reason
   */
  #crashed(reject, reason) {
    this.#worker?.terminate();
    this.#worker = undefined;
    reject(
      new ModelError(
        `LiteRT could not run the model (${reason}). Try a smaller search size or another model; if that does not help, reload the page.`,
      ),
    );
  }
}
