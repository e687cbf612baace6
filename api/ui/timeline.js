// Timeline of a call: milestones with durations, and all events.

import { h } from "./dom.js";
import { clock, plural, span } from "./format.js";

const EVENT_TEXTS = {
  "stream.started": (one) => `Stream began (${one.carrier}, ${one.codec} ${one.rate_hz / 1000} kHz)`,
  "stream.ended": (one) => `Stream ended (${one.reason})`,
  "dtmf.received": (one) => `Key ${one.digit} pressed (${one.track})`,
  "call.status": (one) => `Carrier reported ${one.status}`,
  "recording.ready": () => "Recording stored",
  "transcript.ready": (one) => `Transcribed by ${one.provider} ${one.model}: ${plural(one.words, "word")}`,
  "summary.ready": (one) => `Summarized by ${one.provider} ${one.model}`,
  "embedding.ready": (one) => `Searchable: ${plural(one.points, "turn")}`,
  "usage.recorded": (one) => `Charged: ${plural(one.units, "unit")} of ${one.kind}`,
  "stage.failed": (one) => `${one.stage} gave up after ${plural(one.attempts, "attempt")}: ${one.error}`,
  "letter.replayed": () => "Dead letter replayed",
};

/** Creates the milestones of a part: the time of each, and the time since the one before. */
export function milestones(call, part) {
  const found = [{ name: "Call began", at: part?.started_at_ms ?? call.started_at_ms }];
  const ended = part?.ended_at_ms ?? call.ended_at_ms;
  if (ended) found.push({ name: "Hung up", at: ended });
  const names = { recorded: "Recorded", transcribed: "Transcribed", summarized: "Summarized", embedded: "Searchable" };
  for (const [key, name] of Object.entries(names)) if (part?.times[key]) found.push({ name, at: part.times[key] });
  found.sort((one, other) => one.at - other.at);
  const failed = (part?.status ?? call.status) === "failed";
  return h("ol", { class: "timeline" },
    found.map((one, index) => {
      const took = index ? one.at - found[index - 1].at : 0;
      return h("li", {},
        h("span", { class: "step-name" }, one.name),
        h("time", { datetime: new Date(one.at).toISOString() }, clock(one.at)),
        h("span", { class: "took" }, index ? `+${span(took)}` : ""));
    }),
    failed && h("li", { class: "failed" }, h("span", { class: "step-name" }, `Failed in ${call.failed_stage}`), h("span", {}), h("span", {})));
}

/** Creates the list of all events, in order. */
export function eventList(events) {
  return h("ol", { class: "events" }, events.map((one) =>
    h("li", {},
      h("time", { datetime: new Date(one.occurred_at_ms).toISOString() }, clock(one.occurred_at_ms)),
      h("span", {}, EVENT_TEXTS[one.type]?.(one) ?? one.type))));
}
