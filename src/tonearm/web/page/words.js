// Numbers as people read them, and the stretches of a timeline.

import { mostTelling } from "./telling.js";

// Window edges are sample offsets over a rate: touching ones may differ by less than a millisecond.
const TOUCH_S = 1e-3;

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

export function bytes(size) {
  if (size < 1e6) return `${Math.ceil(size / 1e3)} kB`;
  return size < 1e9 ? `${(size / 1e6).toFixed(1)} MB` : `${(size / 1e9).toFixed(2)} GB`;
}

// What was sent, in one line: length, codec, rate, channels.
export function facts(result) {
  const channels = { 1: "mono", 2: "stereo" }[result.channels] || `${result.channels} channels`;
  const heard = result.coverage < 0.995 ? ` · ${percent(result.coverage)} of it was listened to` : "";
  return `${clock(result.duration_s)} · ${result.codec} · ${result.sample_rate / 1000} kHz · ${channels}${heard}`;
}

// Neighbouring windows with one name as one stretch: {start_s, end_s, name, windows}. Where windows overlap (the last is
// shifted back), the later one begins where the one before it ends.
export function stretches(result) {
  const joined = [];
  for (const entry of result.windows) {
    const name = result.silent ? "silent" : entry.genre || mostTelling(entry.tags)[0]?.label || "";
    const last = joined.at(-1);
    if (last && last.name === name && entry.start_s <= last.end_s + TOUCH_S) {
      last.end_s = Math.max(last.end_s, entry.end_s);
      last.windows.push(entry);
      continue;
    }
    const start = last ? Math.max(entry.start_s, last.end_s) : entry.start_s;
    if (start < entry.end_s) joined.push({ start_s: start, end_s: entry.end_s, name, windows: [entry] });
  }
  return joined;
}

// The tags of some windows with their mean score over them, the most telling first.
export function tagsOf(windows) {
  const sums = new Map();
  for (const { label, score } of windows.flatMap((entry) => entry.tags)) sums.set(label, (sums.get(label) || 0) + score);
  return mostTelling([...sums].map(([label, sum]) => ({ label, score: sum / windows.length })));
}
