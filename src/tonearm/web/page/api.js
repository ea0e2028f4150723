// The public routes, as the page uses them: nothing here that another client could not do.

const MAX_TRIES = 8;

let key = sessionStorage.getItem("tonearm-key") || "";

export function useKey(value) {
  key = value;
  sessionStorage.setItem("tonearm-key", value);
}

// What a person is told; other codes come with the server's own words.
const WORDS = {
  not_audio: "This is not an audio file, or one that cannot be read",
  no_audio: "There is no sound in this file",
  empty_file: "This file is empty",
  corrupt: "This file is damaged",
  too_short: "This clip is too short to listen to",
  too_long: "This track is too long for this server",
  body_too_large: "This file is too large for this server",
  body_timeout: "Sending the file took too long",
  decode_timeout: "Reading this file took too long",
  decode_crashed: "This file is damaged",
  decode_memory: "This file is too large to read",
};

export class Refusal extends Error {
  constructor(status, body) {
    super(WORDS[body.code] || body.error || `The server answered ${status}`);
    this.status = status;
    this.hint = body.hint || "";
  }
}

export async function models() {
  const answer = await fetch("v1/models", { headers: headers() });
  return answer.ok ? answer.json() : [];
}

// Sends a file; `say` hears {sent: 0..1}, {waiting: seconds} and {listening: true}. XMLHttpRequest, because fetch
// cannot tell how much of an upload is done.
export async function send(path, file, say) {
  for (let tries = 1; ; tries++) {
    const answer = await once(path, file, say);
    if (answer.status === 200) return answer.body;
    const wait = Number(answer.retryAfter);
    if (![429, 503].includes(answer.status) || !wait || tries === MAX_TRIES) throw new Refusal(answer.status, answer.body);
    say({ waiting: wait });
    await new Promise((done) => setTimeout(done, wait * 1000));
  }
}

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function once(path, file, say) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && say({ sent: event.loaded / event.total });
    request.upload.onload = () => say({ listening: true });
    request.onerror = () => fail(new Error("The server cannot be reached; try again in a moment"));
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* not tonearm's answer: a proxy's */ }
      done({ status: request.status, body, retryAfter: request.getResponseHeader("Retry-After") });
    };
    request.send(file);
  });
}
