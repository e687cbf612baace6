// Search page: finds turns by meaning across calls, and plays each hit at its position.

import { callPath, callPage, get } from "../api.js";
import { fill, h, icon, problem } from "../dom.js";
import { callFilters, forApi, withFilters } from "../filters.js";
import { duration, marked, plural, zone } from "../format.js";
import { shortcuts } from "../shortcuts.js";

export function render(root, { go, who, params }) {
  const query = params.get("q") ?? "";
  const audio = new Audio();
  audio.preload = "none";
  let playing = null; // { button, hit }
  let closed = false;
  let asked = null;

  const field = h("input", { id: "q", name: "q", type: "search", value: query, placeholder: "What was it about? “The customer wants a refund”", autocomplete: "off", required: true });
  const narrowing = callFilters(["since", "until", "number", "carrier", who.tenant === null && "tenant", "min_duration_s", "max_duration_s"].filter(Boolean), params, () => {
    history.replaceState(null, "", withFilters("/search", { q: query, ...narrowing.values() }));
    if (query) find();
  }, "Filters");
  const results = h("div", { class: "results", "aria-live": "polite" });
  root.append(
    h("h1", {}, "Search"),
    h("form", { class: "big-search", role: "search", onsubmit: (event) => { event.preventDefault(); if (field.value.trim()) go(withFilters("/search", { q: field.value.trim(), ...narrowing.values() })); } },
      h("label", { class: "sr", for: "q" }, "Search by meaning"), icon("search"), field, h("button", { class: "button primary" }, "Search")),
    h("form", { class: "filters", "aria-label": "Filter the searched calls", onsubmit: (event) => event.preventDefault() }, narrowing.element, h("span", { class: "muted small zone" }, `Days: ${zone}`)),
    results);
  if (query) find(); else {
    fill(results, h("p", { class: "muted" }, "Search works by meaning: use your own words, in any language that the model supports. Every hit is one turn of a call."));
    field.focus();
  }

  async function find() {
    fill(results, h("p", { class: "muted" }, "Searching…"));
    try {
      const filters = narrowing.values();
      asked?.abort();
      const own = (asked = new AbortController());
      const found = (await get("/v1/search", { q: query, limit: 30, group_by: "call", ...forApi(filters) }, own.signal)).results;
      if (closed || own !== asked) return;
      if (!found.length) {
        fill(results, h("p", { class: "muted" }, Object.keys(filters).length ? "No matching turns in calls that pass the filters." : "No matching turns."));
        return;
      }
      const calls = [...Map.groupBy(found, (hit) => `${hit.tenant}\u0000${hit.call_id}`).values()];
      fill(results, h("p", { class: "muted small" }, `${plural(found.length, "hit")} in ${plural(calls.length, "call")}`), calls.map(group));
    } catch (error) {
      if (!closed && error.name !== "AbortError") fill(results, problem(error, find));
    }
  }

  function group(hits) {
    const { call_id: id, tenant } = hits[0];
    return h("section", { class: "card hit-group", "aria-label": `Call ${id}` },
      h("p", { class: "hit-call" }, h("a", { class: "mono id", href: callPage(id, tenant) }, id), h("span", { class: "muted small" }, plural(hits.length, "hit"))),
      h("ol", { class: "hits" }, hits.map(row)));
  }

  function row(hit) {
    const button = h("button", { class: "play small", "aria-label": playLabel(hit), onclick: () => toggle(hit, button) }, icon("play"));
    const place = callPage(hit.call_id, hit.tenant, { part: hit.part, t: (hit.start_ms / 1000).toFixed(2) });
    return h("li", { class: `hit ${hit.speaker}` },
      button,
      h("div", { class: "hit-body" },
        h("p", { class: "hit-text" }, marked(hit.text, query).map(([text, said]) => (said ? h("mark", {}, text) : text))),
        h("p", { class: "muted small hit-facts" },
          h("span", { class: "speaker" }, hit.speaker), h("span", {}, duration(hit.start_ms)), hit.part > 1 && h("span", {}, `part ${hit.part}`),
          h("a", { href: place }, "Open the call here"))),
      h("span", { class: "score", title: "Similarity of meaning: 1.00 is the same sentence" }, h("span", { class: "sr" }, "Similarity "), hit.score.toFixed(2)));
  }
  const playLabel = (hit) => `Play ${hit.speaker} at ${duration(hit.start_ms)}`;

  function toggle(hit, button) {
    if (playing?.button === button && !audio.paused) return audio.pause();
    stop();
    playing = { button, hit };
    const source = callPath(hit.call_id, hit.tenant, "/recording", { part: hit.part });
    if (audio.getAttribute("src") !== source) audio.src = source;
    audio.currentTime = hit.start_ms / 1000;
    audio.play().catch(() => null);
  }
  function stop() {
    audio.pause();
    if (playing) look(playing, false);
    playing = null;
  }
  function look({ button, hit }, on) {
    button.replaceChildren(icon(on ? "pause" : "play"));
    button.setAttribute("aria-label", on ? "Pause" : playLabel(hit));
    button.closest(".hit").classList.toggle("playing", on);
  }
  audio.addEventListener("play", () => playing && look(playing, true));
  audio.addEventListener("pause", () => playing && look(playing, false));
  audio.addEventListener("error", () => { if (playing) playing.button.title = "The recording cannot be played"; });
  audio.addEventListener("timeupdate", () => { if (playing && audio.currentTime * 1000 > playing.hit.end_ms + 300) stop(); });

  const stopKeys = shortcuts([
    { keys: ["/"], text: "Search", run: () => { field.focus(); field.select(); } },
    { keys: ["j", "k"], text: "Next or previous hit", run: (key) => move(key === "j" ? 1 : -1) },
    { keys: ["Enter"], text: "Play the hit" },
  ]);
  function move(step) {
    const buttons = [...results.querySelectorAll(".hit .play")];
    const at = buttons.indexOf(document.activeElement);
    buttons[at === -1 ? 0 : Math.min(buttons.length - 1, Math.max(0, at + step))]?.focus();
  }

  return () => {
    closed = true;
    asked?.abort();
    stopKeys();
    stop();
    audio.removeAttribute("src");
    audio.load();
  };
}
