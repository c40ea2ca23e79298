// Browsers refuse workers to pages opened as files; the site's search runs in one. Where the page is a
// file, a Worker is a hidden frame instead that runs the same script and speaks with the same messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc =
        "<script>" +
        "window.importScripts = (...urls) => urls.reduce((done, url) => done.then(() =>" +
        "  new Promise((good, bad) => { const script = document.createElement('script');" +
        "    script.src = url; script.onload = good; script.onerror = bad;" +
        "    document.head.append(script); })), Promise.resolve());" +
        "window.postMessage = (message) => parent.dispatchEvent(" +
        "  new CustomEvent('from-worker', { detail: { message, frame: frameElement } }));" +
        `</script><script src="${new URL(url, location.href)}"></script>`;
      window.addEventListener("from-worker", ({ detail }) => {
        if (detail.frame !== this.frame) return;
        // Later, as from a worker: the page may be in the middle of something.
        setTimeout(() => {
          const event = new MessageEvent("message", { data: detail.message });
          this.dispatchEvent(event);
          if (this.onmessage) this.onmessage(event);
        });
      });
      this.frame.addEventListener("load", () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((message) => this.postMessage(message));
      });
      document.body.append(this.frame);
    }

    postMessage(message) {
      if (this.waiting) this.waiting.push(message);
      else {
        const frame = this.frame.contentWindow;
        setTimeout(() => frame.dispatchEvent(new MessageEvent("message", { data: message })));
      }
    }

    terminate() {
      this.frame.remove();
    }
  };
}
