// Versions of a call's transcripts and summaries, with the current ones marked.

import { callPath, get, send } from "./api.js";
import { fill, h, icon, problem, toast } from "./dom.js";
import { moment } from "./format.js";

const NAMES = { transcript: "Transcript", summary: "Summary" };

/** Creates the list of the versions of one part; invokes `changed` after another version became current. */
export function versionList(call, part, changed) {
  const box = h("div", { class: "versions" }, h("p", { class: "muted" }, "Loading…"));
  load();

  async function load() {
    try {
      const { versions } = await get(callPath(call.id, call.tenant, "/versions"));
      show(versions.filter((one) => one.part === part));
    } catch (error) {
      fill(box, problem(error, load));
    }
  }

  function show(versions) {
    // A summary belongs to its transcript: only summaries of the current transcript can become current.
    const transcript = versions.find((one) => one.of === "transcript" && one.current)?.version_id;
    const shown = versions.filter((one) => one.of === "transcript" || one.transcript_id === transcript);
    fill(box, h("ul", { class: "facts-list" }, shown.map((one) => h("li", { "data-version": one.version_id },
      h("span", {}, NAMES[one.of], " ", h("strong", {}, `${one.provider} ${one.model}`), " ",
        h("span", { class: "muted small" }, h("time", { datetime: new Date(one.made_at_ms).toISOString() }, moment(one.made_at_ms)), one.replay_id && ", by a replay")),
      one.current
        ? h("span", { class: "badge good" }, icon("check"), "in use")
        : h("button", { class: "button", "aria-label": `Use the ${one.of} of ${one.provider} ${one.model}`, onclick: (event) => use(one, event.currentTarget) }, "Use this")))));
  }

  async function use(version, button) {
    button.disabled = true;
    try {
      await send("POST", callPath(call.id, call.tenant, "/versions/current", { version: version.version_id }));
      toast(`The ${version.of} of ${version.provider} ${version.model} is in use`);
      changed();
    } catch (error) {
      button.disabled = false;
      toast(error.message, "bad");
    }
  }

  return box;
}
