// The public routes, as the page uses them: nothing here that another client could not do.

import { WORDS } from "./error_words.js";

const MAX_TRIES = 8;
const MAX_BACKOFF_S = 30;
// Full, starting or stopping, or asked too often: what passes by itself.
const PASSING = [429, 503];

let key = sessionStorage.getItem("tonearm-key") || "";

export function useKey(value) {
  key = value;
  sessionStorage.setItem("tonearm-key", value);
}

export function hasKey() {
  return key !== "";
}

// What the server answered instead of a result; `detail` is what its operator can find the request by.
export class Refusal extends Error {
  constructor(status, body) {
    super(WORDS[body.code] || body.error || `The server answered ${status}`);
    this.status = status;
    this.code = body.code || "";
    this.hint = body.hint || "";
    this.said = body.error || "";
    this.detail = [WORDS[body.code] && body.error, body.request_id && `request ${body.request_id}`].filter(Boolean).join(" · ");
  }
}

// No answer at all; `hint` says what to do.
export class NoAnswer extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

// The models that are served.
export async function models() {
  const answer = await fetch("v1/models", { headers: headers(), cache: "no-store" });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(answer.status, body);
  return body;
}

// Sends a file until `signal` is aborted; `hear` is told {sent, size} in bytes, {isSent: true} once the server has all of
// it, and {wait, tries, maxTries} while the server has no room. XMLHttpRequest, because fetch cannot tell how much of an
// upload is done.
export async function send(path, file, signal, hear) {
  for (let tries = 1; ; tries++) {
    const answer = await sendOnce(path, file, signal, hear);
    if (answer.status === 200) return answer.body;
    if (!PASSING.includes(answer.status) || tries === MAX_TRIES) throw new Refusal(answer.status, answer.body);
    const wait = secondsToWait(answer.retryAfter, tries);
    hear({ wait, tries: tries + 1, maxTries: MAX_TRIES });
    await pause(wait, signal);
  }
}

// The value of Retry-After is seconds or a date; a proxy may give none.
function secondsToWait(retryAfter, tries) {
  const seconds = /^\d+$/.test(retryAfter || "") ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Math.max(1, Math.ceil(seconds || Math.min(MAX_BACKOFF_S, 2 ** tries)));
}

function pause(seconds, signal) {
  return new Promise((done, fail) => {
    const stop = () => { clearTimeout(timer); fail(signal.reason); };
    const timer = setTimeout(() => { signal.removeEventListener("abort", stop); done(); }, seconds * 1000);
    signal.addEventListener("abort", stop, { once: true });
  });
}

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function sendOnce(path, file, signal, hear) {
  signal.throwIfAborted();
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    let isSent = false;
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && hear({ sent: event.loaded, size: event.total });
    request.upload.onload = () => { isSent = true; hear({ isSent: true }); };
    request.onabort = () => fail(signal.reason);
    request.onerror = () => fail(isSent
      ? new NoAnswer("The server cannot be reached", "see that it runs, then try again")
      : new NoAnswer("The file could not be sent", "see that the server runs and that the file is not too large for it, then try again"));
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* not tonearm's answer: a proxy's */ }
      done({ status: request.status, body, retryAfter: request.getResponseHeader("Retry-After") });
    };
    request.onloadend = () => signal.removeEventListener("abort", stop);
    signal.addEventListener("abort", stop, { once: true });
    request.send(file);
  });
}
