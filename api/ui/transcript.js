// What was said, word by word, beside what is heard.

import { h } from "./dom.js";
import { duration } from "./format.js";

/**
 * A transcript's turns. play(ms): somebody wants to hear from there. Has `element` and `at(ms, follow)`, which marks what is said then.
 */
export function transcript(text, play) {
  const words = []; // { start, end, element }, by start
  const element = h("ol", { class: "turns", onclick: onClick });
  for (const segment of text.segments) {
    const said = segment.words.length ? segment.words : [{ ...segment, confidence: 1 }];
    const line = h("p", { class: "said" });
    let read = 0; // of the segment's text, which knows what stands between words: "447" and "-291" are one number
    for (const word of said) {
      const letters = word.text.trim();
      const place = segment.text.indexOf(letters, read);
      const between = place < 0 || place - read > 3 ? " " : segment.text.slice(read, place);
      if (place >= 0) read = place + letters.length;
      const span = h("span", { class: word.confidence < 0.4 ? "w unsure" : "w" }, letters);
      span.dataset.ms = word.start_ms;
      words.push({ start: word.start_ms, end: word.end_ms, element: span });
      line.append(between, span);
    }
    element.append(h("li", { class: `turn ${segment.channel === 0 ? "inbound" : "outbound"}`, "data-start": segment.start_ms },
      h("div", { class: "turn-head" },
        h("span", { class: "speaker" }, segment.speaker),
        h("button", { class: "turn-time", "data-ms": segment.start_ms, "aria-label": `Play from ${duration(segment.start_ms)}` }, duration(segment.start_ms))),
      line));
  }
  words.sort((one, other) => one.start - other.start);

  let marked = null;
  let turn = null;
  function onClick(event) {
    const ms = event.target.closest?.("[data-ms]")?.dataset.ms;
    if (ms !== undefined && !String(getSelection())) play(Number(ms));
  }
  function at(ms, follow) {
    let low = 0;
    let high = words.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (words[middle].start <= ms) low = middle + 1; else high = middle;
    }
    const word = words[low - 1];
    const element = word && ms < word.end + 400 ? word.element : null;
    if (element === marked) return;
    marked?.classList.remove("on");
    element?.classList.add("on");
    marked = element;
    const next = element?.closest(".turn") ?? null;
    if (next === turn || !next) return;
    turn?.removeAttribute("aria-current");
    next.setAttribute("aria-current", "true");
    turn = next;
    if (follow) next.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
  return { element, at };
}
