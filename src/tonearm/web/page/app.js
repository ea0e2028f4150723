// Files in, tracks out: a few at a time, in the order in which they came.

import { models, Refusal, send, useKey } from "./api.js";
import { prepareRecorder } from "./recorder.js";
import { Track } from "./track.js";

const AT_ONCE = 2;
const list = document.getElementById("tracks");
const drop = document.getElementById("drop");
const access = document.getElementById("access");
const waiting = [];
const counts = { all: 0, done: 0, failed: 0, running: 0 };

function take(files) {
  for (const file of files) {
    waiting.push(new Track(file, list));
    counts.all += 1;
  }
  work();
}

function work() {
  while (counts.running < AT_ONCE && waiting.length) {
    counts.running += 1;
    tag(waiting.shift()).finally(() => {
      counts.running -= 1;
      work();
    });
  }
  const failed = counts.failed ? `, ${counts.failed} failed` : "";
  document.getElementById("progress").textContent =
    counts.all > 1 ? `${counts.done} of ${counts.all} tracks done${failed}` : "";
}

async function tag(track) {
  try {
    const result = await send("v1/tag", track.file, (news) => track.hear(news));
    track.state("Drawing");
    track.show(result, await send("v1/view", track.file, () => {}));
    counts.done += 1;
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) {
      // The file waits for the key and is then sent as if nothing had happened.
      track.state("Waiting for the API key");
      waiting.unshift(track);
      await keyGiven();
      return;
    }
    counts.failed += 1;
    if (error instanceof Refusal) track.fail(error.message, error.hint);
    else track.fail(error.message);
  }
}

let given = null;

function keyGiven() {
  access.hidden = false;
  document.getElementById("key").focus();
  given ??= new Promise((done) => {
    access.onsubmit = (event) => {
      event.preventDefault();
      useKey(document.getElementById("key").value.trim());
      access.hidden = true;
      given = null;
      describe();
      done();
    };
  });
  return given;
}

async function describe() {
  try {
    const served = await models();
    if (served.length) {
      document.getElementById("models").textContent =
        served.map((head) => `${head.labels.length} ${head.name === "genre" ? "genres" : "tags"}`).join(", ") +
        " and a timeline of any audio file.";
    }
  } catch { /* the first upload will say it */ }
}

const chooser = document.getElementById("files");
chooser.onchange = () => { take([...chooser.files]); chooser.value = ""; };
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
addEventListener("drop", (event) => take([...event.dataTransfer.files]));
prepareRecorder(document.getElementById("record"), document.getElementById("recorder"), (file) => take([file]));
describe();
