// Files in, tracks out: a few at a time, shown in the order in which they came.

import { Access } from "./access.js";
import { asCsv, asObject, save } from "./exports.js";
import { prepareRecorder } from "./recorder.js";
import { useWeights } from "./telling.js";
import { Track } from "./track.js";

const AT_ONCE = 2;
const list = document.getElementById("tracks");
const drop = document.getElementById("drop");
let tracks = [];

const page = {
  retry(track) {
    track.enter("waiting");
    work();
  },
  remove(track) {
    const place = tracks.indexOf(track);
    tracks = tracks.filter((other) => other !== track);
    track.close();
    const next = tracks[place] || tracks[place - 1];
    (next ? next.find(".remove") : document.getElementById("files")).focus();
    announce(`${track.file.name}: removed`);
    work();
  },
  changed: work,
  announce,
};
const access = new Access((served) => { describe(served); work(); });

// For those who do not see the cards change.
function announce(text) {
  document.getElementById("news").textContent = text;
}

function take(files) {
  tracks.push(...files.map((file) => new Track(file, list, page)));
  if (!access.isAnswered) access.check();
  work();
}

function count(...states) {
  return tracks.filter((track) => states.includes(track.state)).length;
}

function work() {
  for (const track of tracks) {
    if (access.isWanted || count("running") >= AT_ONCE) break;
    if (track.state === "waiting") {
      track.run().then((refusal) => {
        // The file waits for the key and is then sent as if nothing had happened.
        if (refusal) access.ask(refusal);
        work();
      });
    }
  }
  tracks.filter((track) => track.state === "waiting").forEach((track, place) => {
    if (access.isWanted) track.wait("Waiting for the API key");
    else track.wait(place === 0 ? "Waiting: next in line" : `Waiting: ${place} before it in line`);
  });
  sum();
}

// The line and the buttons for all tracks.
function sum() {
  const failed = count("failed") ? `, ${count("failed")} failed` : "";
  const cancelled = count("cancelled") ? `, ${count("cancelled")} cancelled` : "";
  document.getElementById("progress").textContent =
    tracks.length > 1 ? `${count("done")} of ${tracks.length} tracks done${failed}${cancelled}` : "";
  document.getElementById("all").hidden = tracks.length < 2;
  document.getElementById("cancel-all").hidden = !count("waiting", "running");
  for (const name of ["json-all", "csv-all"]) document.getElementById(name).hidden = !count("done");
}

function cancelAll() {
  // From the last one on: those in line first, or each that ends would let the next one start.
  [...tracks].reverse().forEach((track) => track.cancel());
}

function removeAll() {
  const removed = tracks;
  tracks = [];
  removed.forEach((track) => track.close());
  work();
  document.getElementById("files").focus();
  announce("All tracks are removed");
}

function describe(served) {
  useWeights(served);
  const names = { genre: "genres", tags: "tags" };
  const labelled = served.filter((head) => head.activation !== "embedding");
  const kinds = labelled.map((head) => `${head.labels.length} ${names[head.name] || `labels of ${head.name}`}`);
  document.getElementById("models").textContent = `${kinds.join(", ")} and a timeline of any audio file.`;
  document.getElementById("demo").hidden = !served.some((head) => head.is_demo);
}

function finished() {
  return tracks.filter((track) => track.state === "done");
}

document.getElementById("cancel-all").onclick = cancelAll;
document.getElementById("remove-all").onclick = removeAll;
document.getElementById("json-all").onclick = () =>
  save("tracks.json", "application/json", `${JSON.stringify(finished().map(asObject), null, 2)}\n`);
document.getElementById("csv-all").onclick = () => save("tracks.csv", "text/csv", asCsv(finished()));

const chooser = document.getElementById("files");
chooser.onchange = () => { take([...chooser.files]); chooser.value = ""; };
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
addEventListener("drop", (event) => take([...event.dataTransfer.files]));
// A page that is closed, or left for another, wants no answer any more.
addEventListener("pagehide", cancelAll);
setInterval(() => tracks.forEach((track) => track.tick()), 1000);
prepareRecorder(document.getElementById("record"), document.getElementById("recorder"), (file) => take([file]));
access.check();
