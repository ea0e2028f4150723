// Results to take along: text, JSON, CSV, Audacity labels; to the clipboard or to a file.

import { mostTelling } from "./telling.js";
import { clock, facts, percent, stretches } from "./words.js";

// As `tonearm export labels` writes them.
const TAG_SCORE = 0.5;
const TOUCH_S = 1e-3;
// As `tonearm export csv` names and joins them.
const COLUMNS = ["title", "artist", "album", "duration_s", "codec", "sample_rate", "channels", "coverage", "silent", "genre",
  "genre_score", "genre_model", "tag_model", "tonearm_version"];
const FORMULA = /^[=+\-@\t\r\n]/;

export function asText({ file, result }) {
  const list = (scores) => scores.map((entry) => `${entry.label} ${percent(entry.score)}`).join(", ");
  const title = [result.artist, result.title].filter(Boolean).join(" – ");
  const lines = [title ? `${title} (${file.name})` : file.name, facts(result)];
  if (result.silent) return [...lines, "silent", ""].join("\n");
  if (result.genre_scores) lines.push(`Genre: ${list(result.genre_scores.slice(0, 3))}`);
  if (result.tags) lines.push(`Tags: ${list(mostTelling(result.tags))}`);
  for (const [name, { scores, tags }] of Object.entries(result.heads || {})) {
    const labels = scores ? scores.slice(0, 3) : mostTelling(tags || []);
    if (labels.length) lines.push(`${name}: ${list(labels)}`);
  }
  for (const part of stretches(result)) lines.push(`${clock(part.start_s)}–${clock(part.end_s)} ${part.name}`);
  return [...lines, ""].join("\n");
}

export function asObject({ file, result }) {
  return { file: file.name, ...result };
}

export function asCsv(tracks) {
  const heads = new Map(tracks.flatMap(({ result }) => Object.entries(result.heads || {}))); // by name, once each
  const others = [...heads].flatMap(([name, result]) => headCells(name, result).map(([column]) => column));
  const rows = tracks.map(({ file, result }) => {
    const cells = COLUMNS.map((name) => result.silent && name.startsWith("genre") && name !== "genre_model" ? null : result[name]);
    const headCellsByColumn = new Map(
      Object.entries(result.heads || {}).flatMap(([name, head]) => headCells(name, head, result.silent)));
    return [file.name, ...cells, joinTags(result.silent ? [] : result.tags), ...others.map((column) => headCellsByColumn.get(column))];
  });
  return [["file", ...COLUMNS, "top_tags", ...others], ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

function joinTags(tags) {
  return (tags || []).map((tag) => `${tag.label}:${Number(tag.score.toPrecision(4))}`).join("; ");
}

// A further head's columns as [name, value]: its label and score, or its tags, then its model. A silent track has no label.
function headCells(name, { label, score, scores, tags, model }, silent = false) {
  const cells = [];
  if (scores) cells.push([name, silent ? null : label], [`${name}_score`, score]);
  if (tags) cells.push([`${name}_tags`, joinTags(tags)]);
  return [...cells, [`${name}_model`, model]];
}

// A text that a spreadsheet would take for a formula gets a leading apostrophe (OWASP, "CSV Injection").
function cell(value) {
  if (value === null || value === undefined) return "";
  let text = typeof value === "number" ? String(Number(value.toPrecision(7))) : String(value);
  if (typeof value === "string" && FORMULA.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Start, tab, end, tab, label: https://manual.audacityteam.org/man/importing_and_exporting_labels.html
export function asLabels({ result }) {
  const written = result.silent ? [{ start: 0, end: result.duration_s, text: "silent" }] : [
    ...labels(result.windows),
    ...Object.entries(result.heads || {}).flatMap(([name, head]) => headLabels(name, head.windows || [])),
  ];
  return written.map(({ start, end, text }) => `${start.toFixed(6)}\t${end.toFixed(6)}\t${text}\n`).join("");
}

// A further head's own timeline, each label as "NAME: label".
function headLabels(name, windows) {
  const entries = windows.map(({ start_s, end_s, label, tags }) => ({ start_s, end_s, genre: label, tags: tags || [] }));
  return labels(entries).map((label) => ({ ...label, text: `${name}: ${label.text}` }));
}

// Genres never overlap: where a window of another genre overlaps the one before, it gives way. Tags do.
function labels(windows) {
  const ordered = [...windows].sort((one, other) => one.start_s - other.start_s);
  const genres = [];
  for (const label of joined(ordered.filter((entry) => entry.genre).map((entry) => [entry, entry.genre]))) {
    const start = Math.max(label.start, genres.at(-1)?.end ?? label.start);
    if (start < label.end) genres.push({ ...label, start });
  }
  const tagged = new Map();
  for (const entry of ordered) {
    for (const { label, score } of entry.tags) {
      if (score >= TAG_SCORE) tagged.set(label, [...(tagged.get(label) || []), [entry, label]]);
    }
  }
  const tags = [...tagged.values()].flatMap(joined).sort((one, other) => (one.text < other.text ? -1 : 1));
  return [...genres, ...tags].sort((one, other) => one.start - other.start); // stable: genres first, then by name
}

function joined(named) {
  const merged = [];
  for (const [entry, name] of named) {
    const text = name.trim().split(/\s+/).join(" ");
    const last = merged.at(-1);
    if (last && last.text === text && entry.start_s <= last.end + TOUCH_S) last.end = Math.max(last.end, entry.end_s);
    else merged.push({ start: entry.start_s, end: entry.end_s, text });
  }
  return merged;
}

export function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function stem(name) {
  return name.replace(/\.[^.]{1,5}$/, "") || name;
}

// Returns whether it is copied. Where the page came over plain HTTP from another machine, browsers have no clipboard to
// write to; the old way works there.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* the old way, then */ }
  const before = document.activeElement;
  const place = document.createElement("textarea");
  place.value = text;
  place.className = "unseen";
  place.setAttribute("aria-hidden", "true");
  document.body.append(place);
  place.select();
  const isCopied = document.execCommand("copy");
  place.remove();
  before?.focus();
  return isCopied;
}
