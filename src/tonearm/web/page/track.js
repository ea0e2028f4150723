// One track: its state while it is sent, then its labels, its waveform and what is heard where.

const COLOURS = ["#f4a261", "#8ecae6", "#b5e48c", "#cdb4db", "#ffd166", "#90dbf4", "#f7a1c4", "#a3b18a", "#d4a373", "#bde0fe"];
const NUM_GENRES = 5;
const NUM_TAGS = 10;
const STEP_S = 5;

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function percent(score) {
  return `${Math.round(score * 100)} %`;
}

export class Track {
  constructor(file, list) {
    this.file = file;
    const fresh = document.getElementById("track").content.cloneNode(true);
    this.root = fresh.querySelector(".track");
    this.find(".name").textContent = file.name;
    list.prepend(fresh);
    this.state("Waiting");
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  state(text, share = null) {
    this.find(".state").textContent = text;
    const bar = this.find("progress");
    bar.hidden = !text;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share * 100;
  }

  hear(news) {
    if (news.sent !== undefined) this.state(`Sending ${percent(news.sent)}`, news.sent);
    if (news.listening) this.state("Listening");
    if (news.waiting) this.state(`The server is busy; trying again in ${news.waiting} s`);
  }

  fail(message, hint) {
    this.state("");
    const place = this.find(".failure");
    place.textContent = hint ? `${message}. What to do: ${hint}.` : message;
    place.hidden = false;
  }

  show(result, view) {
    this.state("");
    this.result = result;
    this.view = view;
    this.duration = view.duration_s;
    if (result.title) this.find(".name").textContent = [result.artist, result.title].filter(Boolean).join(" – ");
    this.find(".facts").textContent =
      `${clock(result.duration_s)} · ${result.codec} · ${result.sample_rate / 1000} kHz · ` +
      (result.channels === 1 ? "mono" : result.channels === 2 ? "stereo" : `${result.channels} channels`) +
      (result.coverage < 0.995 ? ` · ${percent(result.coverage)} of it was listened to` : "");
    this.find(".result").hidden = false;
    this.scores();
    this.timeline();
    this.player();
    for (const name of ["spectrogram", "mel"]) {
      const image = this.find(`.${name}`);
      image.src = view[name];
      image.alt = `${name === "mel" ? "Mel spectrogram" : "Spectrogram"} of the whole track, 0 to ${view.max_hz / 1000} kHz`;
      image.onclick = (event) => this.seekTo(event);
    }
  }

  scores() {
    const silent = this.result.silent;
    const genres = silent ? [] : (this.result.genre_scores || []).slice(0, NUM_GENRES);
    this.find(".silent").hidden = !silent;
    this.find(".genres").replaceChildren(...genres.map((entry) => row(entry.label, entry.score)));
    const tags = silent ? [] : (this.result.tags || []).slice(0, NUM_TAGS);
    this.find(".tags").replaceChildren(...tags.map((tag) => {
      const item = row(tag.label, tag.score);
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `▶ ${clock(tag.max_start_s)}`;
      button.title = `Play its best segment (${percent(tag.max_score)})`;
      button.setAttribute("aria-label", `Play the best segment of ${tag.label}, at ${clock(tag.max_start_s)}`);
      button.onclick = () => this.play(tag.max_start_s, this.endOf(tag.max_start_s));
      item.append(button);
      return item;
    }));
    this.find(".columns").children[0].hidden = !genres.length;
    this.find(".columns").children[1].hidden = !tags.length;
  }

  endOf(start) {
    const found = this.result.windows.find((entry) => Math.abs(entry.start_s - start) < 0.01);
    return found ? found.end_s : this.duration;
  }

  timeline() {
    const windows = this.result.windows;
    const nameOf = (entry) => this.result.silent ? "silent" : entry.genre || entry.tags[0]?.label || "";
    const names = [...new Set(windows.map(nameOf))];
    const place = this.find(".timeline");
    place.replaceChildren(...windows.map((entry, index) => {
      const block = document.createElement("button");
      const next = windows[index + 1];
      const end = next ? Math.min(entry.end_s, next.start_s) : entry.end_s;
      const name = nameOf(entry);
      const tags = entry.tags.map((tag) => `${tag.label} ${percent(tag.score)}`).join(", ");
      block.type = "button";
      block.textContent = name;
      block.tabIndex = index ? -1 : 0; // one stop of the Tab key for all; the arrow keys go on
      block.style.left = `${(entry.start_s / this.duration) * 100}%`;
      block.style.width = `${((end - entry.start_s) / this.duration) * 100}%`;
      block.style.background = COLOURS[names.indexOf(name) % COLOURS.length];
      block.title = `${clock(entry.start_s)} to ${clock(entry.end_s)}: ${name}${tags ? ` (${tags})` : ""}`;
      block.setAttribute("aria-label", block.title);
      block.onclick = () => this.play(entry.start_s);
      return block;
    }));
    place.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const blocks = [...place.children];
      const to = blocks[blocks.indexOf(document.activeElement) + step];
      if (!step || !to) return;
      blocks.forEach((block) => { block.tabIndex = block === to ? 0 : -1; });
      to.focus();
      event.preventDefault();
    };
  }

  player() {
    const audio = this.audio = this.find("audio");
    const button = this.find(".play");
    const wave = this.find(".wave");
    audio.src = URL.createObjectURL(this.file);
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
    button.onclick = () => { this.until = null; if (audio.paused) audio.play(); else audio.pause(); };
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
    wave.setAttribute("aria-valuemax", Math.round(this.duration));
    new ResizeObserver(() => this.draw()).observe(wave);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.update();
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
    document.querySelectorAll("audio").forEach((other) => other !== this.audio && other.pause());
    this.seek(start);
    this.until = until;
    this.audio.play().catch(() => {}); // onerror has said why
  }

  follow() {
    if (this.until !== null && this.audio.currentTime >= this.until) this.audio.pause();
    this.update();
    if (!this.audio.paused) requestAnimationFrame(() => this.follow());
  }

  update() {
    const now = Math.min(this.audio.currentTime, this.duration);
    const windows = this.result.windows;
    const index = windows.findLastIndex((entry) => entry.start_s <= now + 0.001);
    this.find(".clock").textContent = `${clock(now)} / ${clock(this.duration)}`;
    this.find(".head").style.left = `${(now / this.duration) * 100}%`;
    [...this.find(".timeline").children].forEach((block, place) => block.classList.toggle("now", place === index));
    const heard = windows[index];
    if (heard && !this.find(".play").disabled) {
      const labels = [heard.genre, ...heard.tags.map((tag) => tag.label)].filter(Boolean);
      this.find(".heard").textContent = this.result.silent ? "silent" : labels.join(" · ");
    }
    const wave = this.find(".wave");
    wave.setAttribute("aria-valuenow", Math.round(now));
    wave.setAttribute("aria-valuetext", clock(now));
  }

  draw() {
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

function row(label, score) {
  const item = document.createElement("li");
  const parts = { bar: "", label, score: percent(score) };
  for (const [name, text] of Object.entries(parts)) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    item.append(part);
  }
  item.firstChild.style.width = `${Math.min(1, Math.max(0, score)) * 100}%`;
  return item;
}
