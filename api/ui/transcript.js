// Transcript that follows the player word by word.

import { h, icon } from "./dom.js";
import { duration, span } from "./format.js";

const AFTER_MS = 400; // a word and its turn stay marked this long after their end
const AGAIN_MS = 1500; // within this time of its start, "previous turn" leaves the current turn
const TRACKS = ["inbound", "outbound"];

/**
 * Creates the turns of a transcript. play(ms): plays from that time. Returns:
 * - `element`, the list of turns;
 * - `at(ms, follow)`, which marks the word and the turn at a time, and nothing during silence;
 * - `turnBefore(ms)`, which returns the element of the last turn that began before a time;
 * - `turnStart(ms, step)`, which returns the start (ms) of the next turn (step 1) or of the previous turn (step -1), or null.
 */
export function transcript(text, play) {
  const words = []; // { start, end, element }, by start
  const turns = []; // the same
  const element = h("ol", { class: "turns", onclick: onClick });
  for (const segment of text.segments) {
    const said = segment.words.length ? segment.words : [{ ...segment, confidence: 1 }];
    const line = h("p", { class: "said" });
    let read = 0; // position in the segment's text, which has the characters between words: "447" and "-291" are one number
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
    const turn = h("li", { class: `turn ${segment.channel === 0 ? "inbound" : "outbound"}`, "data-start": segment.start_ms },
      h("div", { class: "turn-head" },
        h("span", { class: "speaker" }, segment.speaker),
        h("button", { class: "turn-time", "data-ms": segment.start_ms, "aria-label": `Play from ${duration(segment.start_ms)}` }, duration(segment.start_ms))),
      line);
    element.append(turn);
    turns.push({ start: segment.start_ms, end: Math.max(segment.end_ms, ...said.map((word) => word.end_ms)), element: turn });
  }
  for (const one of text.omitted) element.insertBefore(omission(one), turns.find((turn) => turn.start > one.start_ms)?.element ?? null);
  for (const list of [words, turns]) list.sort((one, other) => one.start - other.start);

  let marked = null;
  let turn = null;
  function onClick(event) {
    const ms = event.target.closest?.("[data-ms]")?.dataset.ms;
    if (ms !== undefined && !String(getSelection())) play(Number(ms));
  }
  function at(ms, follow) {
    const word = lastBegun(words, ms);
    const element = word && ms < word.end + AFTER_MS ? word.element : null;
    if (element !== marked) {
      marked?.classList.remove("on");
      element?.classList.add("on");
      marked = element;
    }
    // The turn of the word; between two words the current turn; in a silence no turn.
    const next = element?.closest(".turn") ?? turns.findLast((one) => one.start <= ms && ms < one.end + AFTER_MS)?.element ?? null;
    if (next === turn) return;
    turn?.removeAttribute("aria-current");
    next?.setAttribute("aria-current", "true");
    turn = next;
    if (next && follow) next.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
  const turnBefore = (ms) => lastBegun(turns, ms)?.element;
  function turnStart(ms, step) {
    const starts = turns.map((one) => one.start);
    if (step > 0) return starts.find((start) => start > ms + 1) ?? null;
    // Soon after its start, the current turn counts as the one before.
    return starts.findLast((start) => start < ms - AGAIN_MS) ?? starts[0] ?? null;
  }
  return { element, at, turnBefore, turnStart };
}

const REASONS = { echo: "it repeats the other side, as an echo on the line", repetition: "the engine repeated itself here" };

/** Creates the note about a stretch whose text the engine left out. */
function omission({ start_ms, end_ms, channel, reason }) {
  return h("li", { class: "omitted muted small" }, icon("warn"),
    `${duration(start_ms)}–${duration(end_ms)}: ${span(end_ms - start_ms)} of ${TRACKS[channel] ?? `channel ${channel}`} have no text: ${REASONS[reason] ?? reason}.`);
}

/** Returns a transcript as plain text, one line per turn. Pure. */
export const plainText = (text) => text.segments.map((one) => `[${duration(one.start_ms)}] ${one.speaker}: ${one.text.trim()}\n`).join("");

/** Returns the last item of a list, sorted by start, that has begun at a time. */
function lastBegun(list, ms) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].start <= ms) low = middle + 1; else high = middle;
  }
  return list[low - 1];
}
