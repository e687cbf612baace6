// Keyboard shortcuts of a page, and the dialog that lists them.

import { h } from "./dom.js";

const OWN_KEYS = "button, a, summary, [role=slider], .scroll"; // elements that use Space, Enter or the arrows themselves
const EDITED = "input, select, textarea";
const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→" };

/**
 * Makes shortcuts work until the returned function is invoked. Each: { keys, text, run(key) }; "?" and the button in the header list them.
 * Without `run` a shortcut is only listed: the browser has it.
 * Escape leaves a field. A shortcut does not work in a field, in a dialog, or on a control that uses its key.
 */
export function shortcuts(list) {
  let opened = null;

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.closest(EDITED)) {
      if (event.key === "Escape") at.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return; // Escape closes it
    if (event.key in NAMES && at.closest(OWN_KEYS)) return;
    if (event.key === "?") {
      event.preventDefault();
      help();
      return;
    }
    const found = list.find((one) => one.keys.includes(event.key));
    if (!found?.run) return;
    event.preventDefault();
    found.run(event.key);
  }

  function help() {
    const rows = [...list, { keys: ["Esc"], text: "Leave a field, close a menu or this list" }, { keys: ["?"], text: "Show this list" }];
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
      h("h2", { id: "help-title" }, "Keyboard shortcuts"),
      h("dl", { class: "keys" }, rows.map((one) => h("div", {}, h("dt", {}, one.keys.map((key) => [h("kbd", {}, NAMES[key] ?? key), " "])), h("dd", {}, one.text)))),
      h("div", { class: "dialog-end" }, h("button", { class: "button", onclick: () => dialog.close() }, "Close")));
    document.body.append(dialog);
    dialog.showModal(); // gives the focus back when it closes
    opened = dialog;
  }

  document.addEventListener("keydown", onKey);
  window.addEventListener("help", help);
  return () => {
    document.removeEventListener("keydown", onKey);
    window.removeEventListener("help", help);
    opened?.close();
  };
}
