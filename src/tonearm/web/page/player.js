// The lanes of one track: its waveform, its timeline, its pictures with their axes, and what plays over them.

import { drawHz, drawTimes } from "./axes.js";
import { mostTelling } from "./telling.js";
import { clock, percent, stretches, tagsOf } from "./words.js";

const COLOURS = ["#f4a261", "#8ecae6", "#b5e48c", "#cdb4db", "#ffd166", "#90dbf4", "#f7a1c4", "#a3b18a", "#d4a373", "#bde0fe"];
const STEP_S = 5;
const NUM_HEARD_TAGS = 5;
const NUM_BLOCK_TAGS = 3;

export class Player {
  constructor(root, file) {
    this.find = (selector) => root.querySelector(selector);
    this.duration = 0;
    this.blocks = [];
    this.until = null;
    this.audio = this.find("audio");
    this.url = this.audio.src = URL.createObjectURL(file);
    this.listen();
    this.resized = new ResizeObserver(() => this.layOut());
    this.resized.observe(this.find(".lanes"));
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.theme.addEventListener("change", this.redraw);
  }

  close() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    URL.revokeObjectURL(this.url);
    this.resized.disconnect();
    this.theme.removeEventListener("change", this.redraw);
  }

  // What the server draws of the track; it may come before or after `showResult`.
  showView(view) {
    this.view = view;
    this.duration = view.duration_s;
    for (const name of ["spectrogram", "mel"]) {
      const image = this.find(`.${name}`);
      image.onload = () => this.layOut();
      image.src = view[name];
      image.alt = `${name === "mel" ? "Mel spectrogram" : "Spectrogram"} of the whole track, 0 to ${view.max_hz / 1000} kHz`;
      image.onclick = (event) => this.seekTo(event);
    }
    this.find(".listening").classList.add("seen");
    this.show();
  }

  showResult(result) {
    this.result = result;
    this.duration ||= result.duration_s;
    this.timeline(stretches(result));
    this.show();
  }

  show() {
    this.find(".listening").hidden = false;
    this.find(".wave").setAttribute("aria-valuemax", Math.round(this.duration));
    this.layOut();
    this.update();
  }

  // The end of the window that starts at `start`.
  endOf(start) {
    return this.result.windows.find((entry) => Math.abs(entry.start_s - start) < 0.01)?.end_s ?? this.duration;
  }

  timeline(parts) {
    const names = [...new Set(parts.map((part) => part.name))];
    const colour = (name) => COLOURS[names.indexOf(name) % COLOURS.length];
    const place = this.find(".timeline");
    this.parts = parts;
    this.blocks = parts.map((part, index) => {
      const block = document.createElement("button");
      const tags = tagsOf(part.windows).slice(0, NUM_BLOCK_TAGS).map((tag) => `${tag.label} ${percent(tag.score)}`).join(", ");
      block.type = "button";
      block.tabIndex = index ? -1 : 0; // one stop of the Tab key for all; the arrow keys go on
      block.style.left = `${(part.start_s / this.duration) * 100}%`;
      block.style.width = `${((part.end_s - part.start_s) / this.duration) * 100}%`;
      block.style.background = colour(part.name);
      block.title = `${clock(part.start_s)} to ${clock(part.end_s)}: ${part.name}${tags ? ` (${tags})` : ""}`;
      block.setAttribute("aria-label", block.title);
      block.onclick = () => this.play(part.start_s);
      return block;
    });
    place.replaceChildren(...this.blocks);
    place.hidden = !this.blocks.length;
    this.find(".legend").replaceChildren(...names.map((name) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.style.background = colour(name);
      item.append(swatch, name);
      return item;
    }));
    place.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const to = this.blocks[this.blocks.indexOf(document.activeElement) + step];
      if (!step || !to) return;
      this.blocks.forEach((block) => { block.tabIndex = block === to ? 0 : -1; });
      to.focus();
      event.preventDefault();
    };
  }

  listen() {
    const { audio } = this;
    const button = this.find(".play");
    const wave = this.find(".wave");
    audio.onloadedmetadata = () => {
      // Recordings have no length in their header; a seek far beyond the end makes the browser find it.
      if (audio.duration !== Infinity) return;
      audio.ontimeupdate = () => { audio.ontimeupdate = null; audio.currentTime = 0; };
      audio.currentTime = 1e9;
    };
    audio.onerror = () => {
      button.disabled = true;
      this.find(".heard").textContent = "This browser cannot play the format; the labels are right all the same.";
    };
    audio.onplay = () => { button.textContent = "❚❚"; button.setAttribute("aria-label", "Pause"); this.follow(); };
    audio.onpause = () => { button.textContent = "▶"; button.setAttribute("aria-label", "Play"); this.update(); };
    audio.onseeked = () => this.update();
    button.onclick = () => { this.until = null; if (audio.paused) this.start(); else audio.pause(); };
    wave.onclick = (event) => this.seekTo(event);
    wave.onkeydown = (event) => {
      const step = { ArrowLeft: -STEP_S, ArrowDown: -STEP_S, ArrowRight: STEP_S, ArrowUp: STEP_S }[event.key];
      if (step) this.seek(audio.currentTime + step);
      else if (event.key === "Home") this.seek(0);
      else if (event.key === "End") this.seek(this.duration);
      else if (event.key === " " || event.key === "Enter") button.click();
      else return;
      event.preventDefault();
    };
  }

  seekTo(event) {
    const box = event.currentTarget.getBoundingClientRect();
    this.play(((event.clientX - box.left) / box.width) * this.duration);
  }

  seek(seconds) {
    this.until = null;
    this.audio.currentTime = Math.min(Math.max(0, seconds), this.duration);
    this.update();
  }

  play(start, until = null) {
    this.seek(start);
    this.until = until;
    this.start();
  }

  start() {
    document.querySelectorAll("audio").forEach((other) => other !== this.audio && other.pause());
    this.audio.play().catch(() => {}); // onerror has said why
  }

  follow() {
    if (this.until !== null && this.audio.currentTime >= this.until) this.audio.pause();
    this.update();
    if (!this.audio.paused) requestAnimationFrame(() => this.follow());
  }

  update() {
    if (!this.duration) return;
    const now = Math.min(this.audio.currentTime, this.duration);
    this.find(".clock").textContent = `${clock(now)} / ${clock(this.duration)}`;
    this.find(".head").style.left = `${(now / this.duration) * 100}%`;
    const wave = this.find(".wave");
    wave.setAttribute("aria-valuenow", Math.round(now));
    wave.setAttribute("aria-valuetext", clock(now));
    if (this.result) this.tell(now);
  }

  // Marks the stretch that is heard and names the window's labels; hours of windows are looked through once a window.
  tell(now) {
    const windows = this.result.windows;
    const heard = windows.findLastIndex((entry) => entry.start_s <= now + 0.001);
    if (heard === this.heard) return;
    this.heard = heard;
    const place = this.parts.findLastIndex((part) => part.start_s <= now + 0.001);
    this.blocks.forEach((block, index) => block.classList.toggle("now", index === place));
    if (heard < 0 || this.find(".play").disabled) return;
    const { genre, tags } = windows[heard];
    const labels = [genre, ...mostTelling(tags).slice(0, NUM_HEARD_TAGS).map((tag) => tag.label)].filter(Boolean);
    this.find(".heard").textContent = this.result.silent ? "silent" : labels.join(" · ");
  }

  layOut() {
    if (!this.duration || !this.find(".lanes").clientWidth) return;
    // A name stands where all of it fits; the legend has them all.
    this.blocks.forEach((block, index) => { block.textContent = `\u2009${this.parts[index].name}\u2009`; });
    const isFitting = this.blocks.map((block) => block.scrollWidth <= block.clientWidth); // one layout for all
    this.blocks.forEach((block, index) => { if (!isFitting[index]) block.textContent = ""; });
    for (const axis of this.find(".lanes").querySelectorAll(".times")) drawTimes(axis, this.duration);
    if (!this.view) return;
    drawHz(this.find(".linear"), this.view.max_hz);
    drawHz(this.find(".bands"), this.view.max_hz, this.find(".mel").naturalHeight || null);
    this.draw();
  }

  draw() {
    if (!this.view) return;
    const canvas = this.find(".wave");
    const scale = devicePixelRatio || 1;
    const width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    const pen = canvas.getContext("2d");
    const peaks = this.view.peaks;
    const loudest = Math.max(0.05, ...peaks.map(([low, high]) => Math.max(-low, high)));
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--wave");
    for (let x = 0; x < width; x++) {
      const [low, high] = peaks[Math.min(peaks.length - 1, Math.floor((x / width) * peaks.length))];
      const top = (1 - high / loudest) * height / 2;
      pen.fillRect(x, top, 1, Math.max(1, ((high - low) / loudest) * height / 2));
    }
  }
}
