// The card of one track: where its request is, then its labels, or why there are none.

import { NoAnswer, Refusal, send } from "./api.js";
import { asCsv, asLabels, asObject, asText, copy, save, stem } from "./exports.js";
import { Player } from "./player.js";
import { mostTelling } from "./telling.js";
import { bytes, clock, facts, percent } from "./words.js";

const NUM_GENRES = 5;
const NUM_TAGS = 10;

export class Track {
  // `page` has `retry(track)`, `remove(track)`, `changed()` and `announce(text)`.
  constructor(file, list, page) {
    this.file = file;
    this.page = page;
    this.control = null;
    const fresh = document.getElementById("track").content.cloneNode(true);
    this.root = fresh.querySelector(".track");
    this.find(".name").textContent = this.find(".name").title = file.name;
    this.root.setAttribute("aria-label", file.name);
    this.find("progress").setAttribute("aria-label", `Progress of ${file.name}`);
    for (const [name, words] of [["cancel", "Cancel"], ["retry", "Try again"], ["remove", "Remove"]]) {
      this.find(`.${name}`).setAttribute("aria-label", `${words}: ${file.name}`);
    }
    this.find(".cancel").onclick = () => this.cancel();
    this.find(".retry").onclick = () => page.retry(this);
    this.find(".remove").onclick = () => page.remove(this);
    this.find(".exports").onclick = (event) => this.export(event.target.dataset.export);
    list.append(fresh);
    this.player = new Player(this.root, file);
    this.enter("waiting");
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  // `state` is one of waiting, running, done, failed and cancelled.
  enter(state) {
    this.state = this.root.dataset.state = state;
    const isOpen = state === "waiting" || state === "running";
    const focused = this.root.contains(document.activeElement) ? document.activeElement : null;
    this.find(".cancel").hidden = !isOpen;
    this.find(".retry").hidden = state !== "failed" && state !== "cancelled";
    this.find(".work").hidden = !isOpen;
    this.find(".failure").hidden = state !== "failed" && state !== "cancelled";
    // A button that vanishes under a finger must not take the keyboard's place with it.
    if (focused?.closest("[hidden]")) this.root.querySelector(".title button:not([hidden])").focus();
  }

  say(text, share = null) {
    this.find(".state").textContent = text;
    const bar = this.find("progress");
    if (share === null) bar.removeAttribute("value");
    else bar.value = share * 100;
  }

  wait(text) {
    this.say(text, 0);
  }

  // Sends the file and shows what comes; returns the refusal where the server wants another key for it.
  async run() {
    const control = this.control = new AbortController();
    const { signal } = control;
    Object.assign(this, { news: {}, started: Date.now(), view: null, isSeen: false });
    this.enter("running");
    try {
      await this.readable();
      this.show(await send("v1/tag", this.file, signal, (news) => this.hear(news)));
      await this.look();
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) {
        this.enter("waiting");
        return error;
      }
      if (signal.aborted) this.end("cancelled", "Cancelled", "");
      else this.end("failed", error.message, error.hint, error.detail);
      return null;
    } finally {
      control.abort(); // the other request, where this one has failed
      this.control = null;
    }
    this.enter("done");
    this.page.announce(`${this.file.name}: ${this.headline()}`);
    return null;
  }

  // A folder, or a file that has gone, looks like any other until it is read.
  async readable() {
    try {
      await this.file.slice(0, 1).arrayBuffer();
    } catch {
      throw new NoAnswer("This file cannot be read", "choose files, not folders, and see that they are still there");
    }
  }

  hear(news) {
    this.news = news;
    this.until = news.wait ? Date.now() + news.wait * 1000 : null;
    // The pictures are asked for while the server listens, not while the labels' upload needs the line.
    if (news.isSent) this.look();
    this.tick();
  }

  // Asks for the pictures, once; where there are none, the labels are right all the same.
  look() {
    const { signal } = this.control;
    const place = this.find(".pictures");
    this.view ??= send("v1/view", this.file, signal, () => {}).then(
      (view) => { this.isSeen = true; place.hidden = true; this.player.showView(view); this.tick(); },
      (error) => {
        place.hidden = false;
        place.textContent = signal.aborted ? "Its pictures were cancelled." : `There are no pictures of it: ${error.message}.`;
      },
    );
    return this.view;
  }

  // Says where the request is; once a second and whenever something happens.
  tick() {
    if (this.state !== "running") return;
    const { sent, size, isSent, wait, tries, maxTries } = this.news;
    const elapsed = clock((Date.now() - this.started) / 1000);
    if (wait) {
      const left = Math.max(0, Math.ceil((this.until - Date.now()) / 1000));
      this.say(`The server is busy; trying again in ${left} s (try ${tries} of ${maxTries}) · ${elapsed}`);
      return;
    }
    if (this.result) this.say(`Drawing · ${elapsed}`);
    else if (isSent) this.say(`${this.isSeen ? "Scoring" : "Waiting and decoding"} · ${elapsed}`);
    else if (sent) this.say(`Sending ${percent(sent / size)} of ${bytes(size)} · ${elapsed}`, sent / size);
    else this.say(`Sending ${bytes(this.file.size)} · ${elapsed}`, 0);
  }

  cancel() {
    if (this.control) this.control.abort(new DOMException("Cancelled", "AbortError"));
    else if (this.state === "waiting") {
      this.end("cancelled", "Cancelled", "");
      this.page.changed();
    }
  }

  end(state, message, hint, detail = "") {
    this.enter(state);
    this.find(".why").textContent = hint ? `${message}. What to do: ${hint}.` : message;
    this.find(".detail").textContent = detail;
    if (this.root.isConnected) this.page.announce(`${this.file.name}: ${message}`);
  }

  close() {
    this.cancel();
    this.player.close();
    this.root.remove();
  }

  headline() {
    const { silent, genre, tags } = this.result;
    return silent ? "silent" : genre || mostTelling(tags || [])[0]?.label || "done";
  }

  show(result) {
    this.result = result;
    const title = [result.artist, result.title].filter(Boolean).join(" – ");
    if (result.title) {
      this.find(".name").textContent = this.find(".name").title = title;
      this.find(".file").textContent = this.find(".file").title = this.file.name;
    }
    this.find(".facts").textContent = facts(result);
    this.find(".result").hidden = false;
    this.scores();
    this.player.showResult(result);
    this.tick();
  }

  scores() {
    const { silent } = this.result;
    const genres = silent ? [] : (this.result.genre_scores || []).slice(0, NUM_GENRES);
    this.find(".silent").hidden = !silent;
    this.find(".genres").replaceChildren(...genres.map((entry) => row(entry.label, entry.score)));
    const tags = silent ? [] : mostTelling(this.result.tags || []).slice(0, NUM_TAGS);
    this.find(".tags").replaceChildren(...tags.map((tag) => {
      const item = row(tag.label, tag.score);
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `▶ ${clock(tag.max_start_s)}`;
      button.title = `Play its best segment (${percent(tag.max_score)})`;
      button.setAttribute("aria-label", `Play the best segment of ${tag.label}, at ${clock(tag.max_start_s)}`);
      button.onclick = () => this.player.play(tag.max_start_s, this.player.endOf(tag.max_start_s));
      item.append(button);
      return item;
    }));
    this.find(".tags").classList.toggle("hours", this.result.duration_s >= 3600); // whose clocks are wider
    this.find(".columns").children[0].hidden = !genres.length;
    this.find(".columns").children[1].hidden = !tags.length;
    const others = silent ? [] : Object.entries(this.result.heads || {}).map(otherHead).filter(Boolean);
    this.find(".columns").replaceChildren(...[...this.find(".columns").children].slice(0, 2), ...others);
  }

  async export(kind) {
    const name = stem(this.file.name);
    const object = () => `${JSON.stringify(asObject(this), null, 2)}\n`;
    if (kind === "json") save(`${name}.json`, "application/json", object());
    else if (kind === "csv") save(`${name}.csv`, "text/csv", asCsv([this]));
    else if (kind === "labels") save(`${name}.txt`, "text/plain", asLabels(this));
    else if (kind) {
      const isCopied = await copy(kind === "copy-json" ? object() : asText(this));
      this.find(".copied").textContent = isCopied ? "Copied" : "The browser does not let this page copy; download it instead";
      this.page.announce(this.find(".copied").textContent);
      setTimeout(() => { this.find(".copied").textContent = ""; }, 4000);
    }
  }
}

// What a head besides genre and tags says; null where it has no labels.
function otherHead([name, said]) {
  const labels = said.scores ? said.scores.slice(0, NUM_GENRES) : mostTelling(said.tags || []).slice(0, NUM_TAGS);
  if (!labels.length) return null;
  const section = document.createElement("section");
  const [title, list] = [document.createElement("h3"), document.createElement("ul")];
  title.textContent = name;
  list.className = "scores";
  list.append(...labels.map((entry) => row(entry.label, entry.score)));
  section.append(title, list);
  return section;
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
