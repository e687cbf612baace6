// Rows of the list of calls.

import { callPage } from "../api.js";
import { h, icon } from "../dom.js";
import { STAGES, duration, fullMoment, moment, parties, span, stagesDone } from "../format.js";
import { Meter } from "../live.js";

/** Name of each status, in the list and in its filter. */
export const STATUS_NAMES = {
  live: "Live", recorded: "Recorded", transcribed: "Transcribed", summarized: "Summarized", complete: "Complete", failed: "Failed",
};
const STAGE_OF = { recorder: "recording", transcribe: "transcription", summarize: "summary", embed: "search index" };

/** Returns a key that identifies a call among all tenants. */
export const keyOf = (call) => `${call.tenant}\u0000${call.id}`;

/** Returns the name of the status; of a failed call also the failed stage. */
export function statusText(call) {
  return call.status === "failed" ? `Failed: ${STAGE_OF[call.failed_stage] ?? call.failed_stage}` : STATUS_NAMES[call.status];
}

/** Creates four steps; the completed ones are filled. */
export function steps(call) {
  const done = stagesDone(call);
  const failed = call.status === "failed";
  const state = (index) => (index < done ? "done" : index > done ? "" : failed ? "failed" : call.status === "live" ? "" : "doing");
  return h("span", { class: `steps ${call.status}`, title: failed ? call.failed_reason : null },
    h("span", { class: "pips", "aria-hidden": "true" }, STAGES.map((_, index) => h("i", { class: state(index) }))),
    h("span", { class: "steps-text" }, statusText(call)));
}

function who(call) {
  const [from, to] = parties(call);
  return h("span", { class: "who-calls" },
    h("span", { class: "numbers" }, from, to && h("span", { class: "to" }, icon("arrow"), h("span", { class: "sr" }, " to "), to)),
    to && h("span", { class: "call-id" }, call.id));
}

/** Creates the row of a finished call. */
export function finishedRow(call, { tenants }) {
  return h("div", { class: "row-item", role: "listitem", "data-key": keyOf(call), "data-status": call.status, "data-started": call.started_at_ms },
    h("a", { class: "row", href: callPage(call.id, call.tenant) },
      h("time", { class: "cell-when", datetime: new Date(call.started_at_ms).toISOString(), title: fullMoment(call.started_at_ms) }, moment(call.started_at_ms)),
      who(call),
      h("span", { class: "cell-carrier" }, call.carrier),
      tenants && h("span", { class: "cell-tenant" }, call.tenant),
      steps(call),
      h("span", { class: "cell-gap" }, call.gap_ms > 0 && h("span", { class: "badge warn", title: "Audio that did not arrive; silence in the recording" }, icon("warn"), `${span(call.gap_ms)} missing`)),
      h("span", { class: "cell-duration" }, call.duration_ms ? duration(call.duration_ms) : "–")));
}

/** Row of a live call, with moving levels and elapsed time. */
export class LiveRow {
  constructor(call, { tenants }) {
    this.meter = new Meter();
    this.elapsed = h("span", { class: "cell-duration", "aria-label": "Elapsed" });
    this.element = h("li", { class: "row-item live", "data-key": keyOf(call), "data-status": "live" },
      h("a", { class: "row", href: callPage(call.id, call.tenant) },
        h("span", { class: "cell-when live-mark" }, h("i", { class: "dot", "aria-hidden": "true" }), "Live"),
        who(call),
        h("span", { class: "cell-carrier" }, call.carrier),
        tenants && h("span", { class: "cell-tenant" }, call.tenant),
        this.meter.canvas,
        this.elapsed));
    this.call = call;
    this.run(Date.now());
  }

  /** Updates the elapsed time. */
  run(now) {
    this.elapsed.textContent = duration((this.call.ended_at_ms ?? now) - this.call.started_at_ms);
  }
}
