// The API key: asked for when there is none, and again when the server does not know the one that was given.

import { hasKey, models, Refusal, useKey } from "./api.js";

const form = document.getElementById("access");
const input = document.getElementById("key");
const label = form.querySelector("label");
const reason = document.getElementById("key-reason");

// Calls `accepted` with the models that are served once the server knows the key, now or after some tries.
export class Access {
  constructor(accepted) {
    this.isWanted = false;
    this.isAnswered = false; // whether the server has said which models it has
    this.accepted = accepted;
    form.onsubmit = (event) => { event.preventDefault(); this.submit(); };
  }

  // Asks the server, and the person where the server wants a key.
  async check() {
    try {
      const served = await models();
      this.isWanted = false;
      this.isAnswered = true;
      form.hidden = true;
      this.accepted(served);
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) this.ask(error);
      else if (this.isWanted) this.say(`The key could not be tried: ${error.message}`);
    }
  }

  ask(refusal) {
    const isNew = !this.isWanted;
    this.isWanted = true;
    form.hidden = false;
    label.textContent = hasKey() ? "The server does not know this API key" : "This server wants an API key";
    form.classList.toggle("wrong", hasKey());
    const advice = hasKey() ? "See that it is complete, or ask the server's operator for another. " : "";
    this.say(`${advice}The server said: ${refusal.said || refusal.message}.`);
    if (hasKey()) input.setAttribute("aria-invalid", "true");
    if (isNew || hasKey()) input.focus();
    if (hasKey()) input.select();
  }

  say(text) {
    reason.textContent = text;
  }

  async submit() {
    const { key, problem } = readKey(input.value);
    if (problem) {
      this.say(problem);
      input.setAttribute("aria-invalid", "true");
      form.classList.add("wrong");
      input.select();
      return;
    }
    input.removeAttribute("aria-invalid");
    useKey(key);
    await this.check();
  }
}

// A key may be pasted with the words that `tonearm serve --new-key` prints around it.
function readKey(text) {
  const printed = text.match(/\bta-[A-Za-z0-9_-]{20,}/);
  const key = printed ? printed[0] : text.trim().replace(/^Bearer\s+/i, "");
  if (/^\S+:[0-9a-f]{64}$/.test(key)) {
    return { problem: "This is the line for the server's key file; the key is what was printed above it and starts with ta-." };
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    return { problem: "This cannot be a key: it has spaces or letters that no key has. A key starts with ta-." };
  }
  return { key };
}
