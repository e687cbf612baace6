// Gaps of a track: marks on the waveform, and their description.

import { h } from "./dom.js";
import { duration, place, plural, span } from "./format.js";

const WIDE = 0.004; // share of the recording: a gap of this width is visible and gets its own mark
const NEAR = 0.01; // share of the recording: narrow gaps closer together than this share one mark

/**
 * Returns the waveform's marks for gaps, which do not overlap: one per wide gap, and one for narrow gaps close together.
 * Each mark: { start_ms, end_ms, missing_ms, count, wide }. Pure.
 */
export function marks(gaps, length) {
  const found = [];
  for (const gap of [...gaps].sort((one, other) => one.start_ms - other.start_ms)) {
    const missing = gap.end_ms - gap.start_ms;
    const last = found.at(-1);
    if (missing >= WIDE * length) found.push({ ...gap, missing_ms: missing, count: 1, wide: true });
    else if (last && !last.wide && gap.start_ms - last.end_ms < NEAR * length) {
      Object.assign(last, { end_ms: gap.end_ms, missing_ms: last.missing_ms + missing, count: last.count + 1 });
    } else found.push({ start_ms: gap.start_ms, end_ms: gap.end_ms, missing_ms: missing, count: 1, wide: false });
  }
  return found;
}

/** Describes a mark. */
export function markText(track, mark) {
  if (mark.count === 1) return `${track}: ${span(mark.missing_ms)} missing`;
  return `${track}: ${span(mark.missing_ms)} missing in ${plural(mark.count, "gap")}, ${duration(mark.start_ms)}–${duration(mark.end_ms)}`;
}

/** Creates the list of a track's gaps: the worst stretch, and all gaps on demand. play(ms): plays from there. */
export function gapList(track, play) {
  const { count, worst } = track.gap_summary;
  if (!count) return null;
  const button = (from, text) => h("button", { class: "gap-line", onclick: () => play(Math.max(0, from - 1000)) }, text);
  const list = h("div", { class: "gap-list" });
  const all = h("details", { class: "all-gaps", ontoggle: show }, h("summary", {}, `Show ${count === 1 ? "the gap" : `all ${plural(count, "gap")}`} of ${track.name}`), list);
  function show() {
    if (!all.open || list.childElementCount) return;
    const inOrder = [...track.gaps].sort((one, other) => one.start_ms - other.start_ms);
    list.append(...inOrder.map((gap) => button(gap.start_ms, `${place(gap.start_ms)}, ${span(gap.end_ms - gap.start_ms)}, ${track.name}: ${gap.reason}`)));
    if (track.gaps_left_out) list.append(h("p", { class: "muted small" }, `These are the longest. ${plural(track.gaps_left_out, "shorter gap is", "shorter gaps are")} in the recording's manifest only.`));
  }
  return h("div", { class: "track-gaps" },
    worst && count > 1 && button(worst.start_ms, `Worst of ${track.name}: ${span(worst.missing_ms)} missing, ${place(worst.start_ms)}–${place(worst.end_ms)}`),
    all);
}

/** Describes how much of a track is missing. */
export function missing({ missing_ms, percent, count }) {
  const share = percent < 0.1 ? "less than 0.1" : percent.toFixed(1);
  return `${span(missing_ms)} missing (${share} %), ${plural(count, "gap")}`;
}
