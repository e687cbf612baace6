// Creates elements without HTML: text is only set as text, so that spoken text can never become markup.

/** Creates an element. props: attributes, `class`, `on…` listeners; null and false leave an attribute out. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

/** Appends children: elements, or other values as text; leaves null and false out. */
export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces the content of an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

const PATHS = {
  play: "M7 4.500v15l13-7.500z",
  pause: "M7 4h3.500v16H7zM13.500 4H17v16h-3.500z",
  back: "M11 5v4.200L19 5v14l-8-4.200V19L3 12z",
  forward: "M13 5v4.200L5 5v14l8-4.200V19l8-7z",
  search: "M10.500 4a6.500 6.500 0 1 0 4 11.600l4.700 4.700 1.400-1.400-4.700-4.700A6.500 6.500 0 0 0 10.500 4zm0 2a4.500 4.500 0 1 1 0 9 4.500 4.500 0 0 1 0-9z",
  arrow: "M13.500 5.500 12 7l4 4H4v2h12l-4 4 1.500 1.500L20 12z",
  left: "M10.500 5.500 12 7l-4 4h12v2H8l4 4-1.500 1.500L4 12z",
  theme: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2v14a7 7 0 0 1 0-14z",
  out: "M5 4h8v2H7v12h6v2H5zM15.500 7.500 20 12l-4.500 4.500-1.400-1.400 2.100-2.100H10v-2h6.200l-2.100-2.100z",
  share: "M17 3a3.500 3.500 0 0 0-3.400 4.400L8.800 10a3.500 3.500 0 1 0 0 4l4.800 2.600A3.500 3.500 0 1 0 14.500 15l-4.900-2.700v-.600l4.900-2.700A3.500 3.500 0 1 0 17 3z",
  down: "M11 4h2v9l3.300-3.300 1.400 1.400L12 16.800 6.300 11.100l1.400-1.400L11 13zM5 18h14v2H5z",
  again: "M12 5a7 7 0 0 1 6.300 4H15v2h7V4h-2v3.600A9 9 0 1 0 21 13h-2a7 7 0 1 1-7-8z",
  warn: "M12 3 1.800 20.500h20.400zm-1 6.500h2v5h-2zm0 6.500h2v2h-2z",
  check: "M9.500 17.500 4 12l1.400-1.400 4.100 4.100 9.100-9.100L20 7z",
  link: "M10.600 13.400a1 1 0 0 1-1.400 1.400 5 5 0 0 1 0-7.100l3.500-3.500a5 5 0 0 1 7.100 7.100l-1.500 1.500a6 6 0 0 0-.300-2.300l.400-.600a3 3 0 0 0-4.300-4.300l-3.500 3.600a3 3 0 0 0 0 4.200zm2.800-4.200a1 1 0 0 1 1.400 0 5 5 0 0 1 0 7.100l-3.500 3.500a5 5 0 0 1-7.100-7.100l1.500-1.500a6 6 0 0 0 .300 2.300l-.400.600a3 3 0 0 0 4.300 4.300l3.500-3.600a3 3 0 0 0 0-4.200 1 1 0 0 1 0-1.400z",
  keyboard: "M4 5h16a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2zm0 2v10h16V7zm2 2h2v2H6zm3.300 0h2v2h-2zm3.300 0h2v2h-2zm3.400 0h2v2h-2zM7 13h10v2H7z",
  copy: "M8 3h12v14h-4v4H4V7h4zm2 2v2h6v8h2V5zM6 9v10h8V9z",
};

/** Creates an icon that screen readers ignore: the button around it needs a label. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Shows a message for a few seconds; screen readers read it out. */
export function toast(text, kind = "") {
  const box = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), 6000);
}

/** Copies a text, and says if it is copied. */
export async function copyText(text, copied) {
  try {
    await (navigator.clipboard ? navigator.clipboard.writeText(text) : copySelected(text)); // no clipboard without HTTPS
    toast(copied);
  } catch {
    toast("The browser does not allow copying.", "bad");
  }
}

function copySelected(text) {
  const before = document.activeElement;
  const field = h("textarea", { class: "sr", readonly: true, value: text });
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus?.();
  if (!done) throw new Error("not copied");
}

/** Creates an error box, with a button to retry if `retry` is given. */
export function problem(error, retry) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    icon("warn"),
    h("p", {}, error.message || String(error)),
    retry && h("button", { class: "button", onclick: retry }, "Try again"),
  );
}
