// Sign-in page. A link may carry the API key after the #, which browsers never send to a server.

import { signIn } from "../api.js";
import { h } from "../dom.js";

export function render(root, { signedIn }) {
  root.classList.add("narrow");
  const brought = decodeURIComponent(location.hash.slice(1));
  if (brought) history.replaceState(null, "", location.pathname); // removes the key from the address and the history
  const key = h("input", {
    id: "key", name: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: "false",
    "aria-describedby": "key-help key-error",
  });
  const account = document.querySelector("meta[name=login-url]").content;
  const error = h("p", { id: "key-error", class: "form-error", role: "alert" });
  const button = h("button", { class: "button primary wide", type: "submit" }, "Sign in");
  const form = h("form", { class: "card sign-in", onsubmit: submit },
    h("h1", {}, "Sign in"),
    h("label", { for: "key" }, "API key"),
    key,
    error,
    button,
    brought && h("p", { class: "small", role: "status" }, "This link contains an API key. Sign in only if you know who sent it: you will see the calls of this key."),
    account && h("a", { class: "button wide", href: account }, "Sign in with your account"),
    h("p", { id: "key-help", class: "muted small" },
      "The browser keeps a session cookie that scripts cannot read, for twelve hours by default. Create a key with ",
      h("code", {}, "audiotext keys create"), ", or use ", h("code", {}, "AUDIOTEXT_ADMIN_KEY"), "."),
  );
  root.append(form);
  // Waits for a click: a link must not sign a visitor in as somebody else.
  key.value = brought;
  (brought ? button : key).focus();

  async function submit(event) {
    event?.preventDefault();
    error.textContent = "";
    button.disabled = true;
    try {
      signedIn(await signIn(key.value));
    } catch (problem) {
      error.textContent = problem.status === 401 ? "This key is unknown or has been revoked." : problem.message;
      button.disabled = false;
      key.focus();
    }
  }
}
