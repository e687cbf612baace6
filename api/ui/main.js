// Starts the page: session, header, and the route from an address to a page.

import { NO_ANSWER, session, share, signOut } from "./api.js";
import { fill, h, icon, problem } from "./dom.js";

const ROUTES = [
  { path: /^\/$/, load: () => import("./pages/calls.js"), title: "Calls", nav: "/" },
  { path: /^\/calls\/([^/]+)$/, load: callPage, title: "Call", nav: "/" },
  { path: /^\/search$/, load: () => import("./pages/search.js"), title: "Search", nav: "/search" },
  { path: /^\/usage$/, load: () => import("./pages/usage.js"), title: "Usage", nav: "/usage" },
  { path: /^\/operations$/, load: () => import("./pages/operations.js"), title: "Operations", nav: "/operations" },
];
const NOWHERE = { title: "Not found", nav: null, load: async () => ({ render: (root) => root.append(
  h("h1", {}, "There is no such page"), h("p", {}, `The page ${location.pathname} does not exist. `, h("a", { href: "/" }, "All calls"))) }) };
const routeOf = (path) => (path === "/sign-in" ? SIGN_IN : ROUTES.find((one) => one.path.test(path)) ?? NOWHERE);
// Loads all modules at the same time, instead of each after the module that imports it.
function callPage() {
  import("./vendor/wavesurfer.esm.js").catch(() => null);
  import("./player.js").catch(() => null);
  return import("./pages/call.js");
}

const SIGN_IN = { load: () => import("./pages/signin.js"), title: "Sign in", nav: null };

const header = document.getElementById("header");
const main = document.getElementById("main");
let who = null;
let leave = null; // stops the background work of the page shown
let shown = 0;

/** Opens an address of this site. */
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", path);
  return show();
}

async function show() {
  const number = ++shown;
  const found = routeOf(location.pathname);
  const route = who === null && found !== NOWHERE ? SIGN_IN : found;
  leave?.();
  leave = null;
  document.title = `${route.title} · AudioText`;
  drawHeader(route);
  const root = h("div", { class: "page" });
  try {
    const page = await route.load();
    if (number !== shown) return;
    fill(main, root);
    window.scrollTo(0, 0);
    const id = route.path?.exec(location.pathname)?.[1];
    leave = page.render(root, { who, go, signedIn, id: id && decodeURIComponent(id), params: new URLSearchParams(location.search) }) ?? null;
  } catch (error) {
    if (number === shown) fill(main, problem(unloaded(error), () => location.reload()));
  }
}

/** Replaces a browser's message about a file of this page that could not be fetched by a message for people. */
function unloaded(error) {
  const missing = error instanceof TypeError && /module/i.test(error.message);
  return missing ? new Error(NO_ANSWER) : error;
}

function drawHeader(route) {
  const link = (path, text) =>
    h("a", { href: path, "aria-current": route.nav === path ? "page" : null }, text);
  const guest = who === null || who.via === "link";
  fill(
    header,
    h("a", { class: "brand", href: guest ? "#main" : "/", "aria-label": "AudioText, to the calls" }, mark(), h("span", {}, "AudioText")),
    !guest &&
      h("nav", { "aria-label": "Pages" }, link("/", "Calls"), link("/search", "Search"), link("/usage", "Usage"),
        who.tenant === null && link("/operations", "Operations")),
    h("div", { class: "header-end" },
      !guest && h("span", { class: "who", title: "Whose calls you see" }, who.tenant ?? "all tenants"),
      who?.via === "link" && h("span", { class: "who" }, "shared with you"),
      who !== null && route !== NOWHERE && h("button", { class: "icon-button keys-button", "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", onclick: () => window.dispatchEvent(new CustomEvent("help")) }, icon("keyboard")),
      h("button", { class: "icon-button", "aria-label": "Switch between light and dark", title: "Light or dark", onclick: switchTheme }, icon("theme")),
      !guest && who.via === "session" &&
        h("button", { class: "icon-button", "aria-label": "Sign out", title: "Sign out", onclick: leaveAccount }, icon("out")),
    ),
  );
}

function mark() {
  const image = h("img", { src: new URL("./icon.svg", import.meta.url).pathname, alt: "", width: 22, height: 22 });
  return image;
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  window.dispatchEvent(new CustomEvent("theme"));
}

async function leaveAccount() {
  await signOut().catch(() => null);
  who = null;
  go("/sign-in", { replace: true });
}

function signedIn(found) {
  who = found;
  const back = sessionStorage.getItem("back") ?? "/";
  sessionStorage.removeItem("back");
  go(back, { replace: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.target || link.hasAttribute("download") || link.pathname.startsWith("/v1/") || link.pathname.endsWith(".json")) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
window.addEventListener("popstate", show);
window.addEventListener("signed-out", () => {
  if (who === null) return;
  sessionStorage.setItem("back", location.pathname + location.search);
  who = null;
  go("/sign-in", { replace: true });
});

async function start() {
  routeOf(location.pathname).load().catch(() => null); // loads during the request for the session
  try {
    who = await session();
    if (location.pathname === "/sign-in") history.replaceState(null, "", "/");
  } catch (error) {
    if (share() || error.status !== 401) {
      drawHeader(SIGN_IN);
      fill(main, h("div", { class: "page narrow" }, problem(error, () => location.reload())));
      return;
    }
    if (location.pathname !== "/sign-in" && routeOf(location.pathname) !== NOWHERE) {
      sessionStorage.setItem("back", location.pathname + location.search);
      history.replaceState(null, "", `/sign-in${location.hash}`);
    }
  }
  await show();
}

start();
