// Searches, filters, sorts and pages through the tracks of the page's data; without scripts the first ones are there.
const section = document.getElementById("tracks");
const dataElement = document.getElementById("data");
if (section && dataElement) start(section, JSON.parse(dataElement.textContent));

function start(section, { folders, labels, rows, failed }) {
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const kinds = headings.map((heading) => heading.dataset.column);
  const atATime = Number(section.dataset.atATime);
  const controls = section.querySelector("form");
  const count = section.querySelector("output");
  const pager = section.querySelector(".pager");
  const { text, genre, tag, state } = controls.elements;

  const place = (folder, name) => {
    const [shown, prefix] = folders[folder];
    const quoted = /^[A-Za-z][A-Za-z0-9+.-]+:\/\//.test(shown) ? name : encodeURIComponent(name);
    return { uri: shown + name, name, href: prefix === null || !name ? null : prefix + quoted };
  };
  const tracks = rows.map(([folder, name, title, artist, genre, score, seconds, tags]) => ({
    ...place(folder, name), title: title || name.replace(/\.\w{1,5}$/, ""), artist: labels[artist], genre, score, seconds, tags,
  }));
  for (const [folder, name, code, message] of failed) {
    const where = place(folder, name);
    tracks.push({ ...where, title: name, artist: null, genre: -1, score: null, seconds: null, tags: [], code, message: labels[message] });
  }
  // Searched without case and accents, so that "bjork" finds "Björk".
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const haystack = (track) => (track.plain ??= plain(`${track.title}\n${track.artist ?? ""}\n${track.uri}`));

  fill(genre, counted(tracks.map((track) => track.genre)).filter(([label]) => label >= 0 && labels[label] !== null));
  fill(tag, counted(tracks.flatMap((track) => track.tags.filter((_, at) => at % 2 === 0))));
  fill(state, counted(tracks.map((track) => track.code ?? -1)).filter(([label]) => label >= 0));

  function counted(values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]);
  }
  function fill(select, entries) {
    for (const [label, number] of entries) {
      select.add(new Option(`${labels[label]} (${number.toLocaleString("en")})`, String(label)));
    }
    if (!entries.length && select !== state) select.closest("label").hidden = true;
  }

  let found = tracks;
  let first = 0;
  let order = null;

  function search() {
    const words = plain(text.value).split(/\s+/).filter(Boolean);
    found = tracks.filter((track) =>
      (!genre.value || track.genre === Number(genre.value))
      && (!tag.value || track.tags.some((label, at) => at % 2 === 0 && label === Number(tag.value)))
      && (!state.value || (state.value === "ok" ? track.code === undefined : state.value === "failed"
        ? track.code !== undefined : track.code === Number(state.value)))
      && words.every((word) => haystack(track).includes(word)));
    if (order) sort(found, order);
    show(0);
  }

  const keys = {
    track: (track) => track.title, artist: (track) => track.artist ?? "", genre: (track) => labels[track.genre] ?? "",
    score: (track) => track.score ?? -1, tags: (track) => labels[track.tags[0]] ?? "", seconds: (track) => track.seconds ?? -1,
  };
  const collator = new Intl.Collator(undefined, { numeric: true });
  function sort(list, { column, direction }) {
    const key = keys[column];
    const compare = typeof key(list[0] ?? tracks[0]) === "number" ? (a, b) => key(a) - key(b) : (a, b) => collator.compare(key(a), key(b));
    list.sort((a, b) => direction * compare(a, b));
  }

  function show(from) {
    first = Math.max(0, Math.min(from, found.length - 1));
    first -= first % atATime;
    const some = found.slice(first, first + atATime);
    body.replaceChildren(...some.map(line));
    count.textContent = !found.length ? "Nothing found"
      : `${(first + 1).toLocaleString("en")}–${(first + some.length).toLocaleString("en")} of ${found.length.toLocaleString("en")}`
        + (found.length < tracks.length ? ` found among ${tracks.length.toLocaleString("en")}` : "");
    const [previous, next] = pager.querySelectorAll("button");
    previous.disabled = first === 0;
    next.disabled = first + atATime >= found.length;
    pager.hidden = found.length <= atATime;
  }

  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }
  function clipped(content, name = "span", className = "clip") {
    const made = element(name, className, element("bdi", "", content));
    made.title = content;
    return made;
  }
  const cells = {
    track(track) {
      const cell = element("th", "song");
      cell.scope = "row";
      const title = clipped(track.title, track.href ? "a" : "span");
      if (track.href) title.href = track.href;
      const file = clipped(track.href ? track.name : track.uri, "small", track.href ? "clip" : "clip copied");
      file.title = track.uri;
      cell.append(title, file);
      return cell;
    },
    artist: (track) => element("td", track.artist ? "text" : "text none", track.artist ? clipped(track.artist) : "–"),
    genre: (track) => element("td", "text", track.code !== undefined ? element("code", "bad", labels[track.code])
      : labels[track.genre] ? clipped(labels[track.genre]) : "–"),
    score: (track) => element("td", track.score === null ? "none" : "", track.score === null ? "–" : meter(track.score)),
    tags(track) {
      if (track.code !== undefined) {
        const said = element("td", "tags", track.message || "–");
        said.title = track.message;
        return said;
      }
      const cell = element("td", "tags");
      for (let at = 0; at < Math.min(6, track.tags.length); at += 2) {
        cell.append(element("span", "tag", element("b", "", element("bdi", "", labels[track.tags[at]])), ` ${(track.tags[at + 1] / 100).toFixed(2)}`), " ");
      }
      if (!track.tags.length) cell.append("–");
      return cell;
    },
    seconds: (track) => element("td", track.seconds === null ? "right none" : "right", track.seconds === null ? "–" : clock(track.seconds)),
  };
  function meter(hundredths) {
    const filled = element("span", "fill");
    filled.style.width = `${hundredths}%`;
    const bar = element("span", "track", filled);
    bar.setAttribute("aria-hidden", "true");
    return element("div", "meter small", bar, element("span", "figure", (hundredths / 100).toFixed(2)));
  }
  function clock(seconds) {
    const two = (number) => String(number).padStart(2, "0");
    const minutes = Math.floor(seconds / 60);
    const rest = two(seconds % 60);
    return minutes >= 60 ? `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}` : `${minutes}:${rest}`;
  }
  function line(track) {
    const row = element("tr", "", ...kinds.map((kind) => cells[kind](track)));
    // Without tags there is no column in which its message could stand.
    if (track.code !== undefined && !kinds.includes("tags")) row.querySelector(".song").append(element("small", "", track.message));
    return row;
  }

  headings.forEach((heading, at) => {
    const button = element("button", "", ...heading.childNodes);
    button.type = "button";
    heading.append(button);
    button.addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      order = { column: kinds[at], direction };
      search();
    });
  });
  let waiting = null;
  text.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 60); });
  for (const select of [genre, tag, state]) select.addEventListener("change", search);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(search));
  const [previous, next] = pager.querySelectorAll("button");
  const turn = (by) => { show(first + by * atATime); section.scrollIntoView(); };
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  for (const button of document.querySelectorAll("button[data-code]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      controls.reset();
      clearTimeout(waiting);
      state.value = String(labels.indexOf(button.dataset.code));
      setTimeout(() => { search(); section.scrollIntoView(); });
    });
  }
  controls.hidden = false;
  show(0);
}
