// Browsers start no worker for a page that was opened from a folder, and the search of the site is one. There it runs in
// a hidden frame. The theme's own stand-in for this would be loaded from another host.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = (...urls) => Promise.all(urls.map((each) => load(inside.document, each)))
      this.ready = load(inside.document, url)
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {
      this.frame.remove()
    }
  }
  const load = (page, url) =>
    new Promise((resolve, reject) => {
      const script = page.createElement("script")
      Object.assign(script, { src: url, onload: resolve, onerror: reject })
      page.body.append(script)
    })
}
