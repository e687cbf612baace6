// Search by what was meant, across calls; a hit plays at its place.

import { address, callPath, get } from "../api.js";
import { fill, h, icon, problem } from "../dom.js";
import { duration } from "../format.js";

export function render(root, { go, params }) {
  const query = params.get("q") ?? "";
  const audio = new Audio();
  audio.preload = "none";
  let playing = null; // { button, hit }
  let closed = false;

  const field = h("input", { id: "q", name: "q", type: "search", value: query, placeholder: "What was it about? “The customer wants a refund”", autocomplete: "off", required: true });
  const results = h("div", { class: "results", "aria-live": "polite" });
  root.append(
    h("h1", {}, "Search"),
    h("form", { class: "big-search", role: "search", onsubmit: (event) => { event.preventDefault(); if (field.value.trim()) go(`/search?q=${encodeURIComponent(field.value.trim())}`); } },
      h("label", { class: "sr", for: "q" }, "Search by meaning"), icon("search"), field, h("button", { class: "button primary" }, "Search")),
    results);
  if (query) find(); else {
    fill(results, h("p", { class: "muted" }, "Search goes by meaning: say it in your own words, in any language the model knows. Every hit is one turn of a call."));
    field.focus();
  }

  async function find() {
    fill(results, h("p", { class: "muted" }, "Searching…"));
    try {
      const found = (await get("/v1/search", { q: query, limit: 30 })).results;
      if (closed) return;
      fill(results, h("p", { class: "sr" }, `${found.length} hits`), found.length ? h("ol", { class: "card hits" }, found.map(row)) : h("p", { class: "muted" }, "Nothing like it was said."));
    } catch (error) {
      if (!closed) fill(results, problem(error, find));
    }
  }

  function row(hit) {
    const button = h("button", { class: "play small", "aria-label": playLabel(hit), onclick: () => toggle(hit, button) }, icon("play"));
    const place = `/calls/${encodeURIComponent(hit.call_id)}?part=${hit.part}&t=${(hit.start_ms / 1000).toFixed(2)}`;
    return h("li", { class: `hit ${hit.speaker}` },
      button,
      h("div", { class: "hit-body" },
        h("p", { class: "hit-text" }, hit.text),
        h("p", { class: "muted small hit-facts" },
          h("span", { class: "speaker" }, hit.speaker), h("span", {}, duration(hit.start_ms)), hit.part > 1 && h("span", {}, `part ${hit.part}`),
          h("a", { href: place }, "Open the call here"), h("span", { class: "mono id" }, hit.call_id))),
      h("span", { class: "score", title: "How alike it is: 1 is the same" }, h("span", { class: "sr" }, "Score "), hit.score.toFixed(2)));
  }
  const playLabel = (hit) => `Play ${hit.speaker} at ${duration(hit.start_ms)}`;

  function toggle(hit, button) {
    if (playing?.button === button && !audio.paused) return audio.pause();
    stop();
    playing = { button, hit };
    const source = address(`${callPath(hit.call_id)}/recording`, { part: hit.part });
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

  return () => {
    closed = true;
    stop();
    audio.removeAttribute("src");
    audio.load();
  };
}
