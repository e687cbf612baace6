// The public API, as anybody could use it.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** What is said when nobody answers. */
export const NO_ANSWER = "The server does not answer. It may be restarting; try again in a moment.";

let csrf = null;

/** The token of a link to one call, if that is how the visitor came. */
export const share = () => (location.pathname.startsWith("/calls/") ? new URLSearchParams(location.search).get("share") : null);

/** An address of the API with these parameters, to be fetched, played or saved. */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== null && value !== undefined && value !== "") query.set(name, value);
  const token = share();
  if (token) query.set("share", token);
  const text = query.toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

/** Path of a call. */
export const callPath = (id) => `/v1/calls/${encodeURIComponent(id)}`;

/** The JSON at a path. Throws ApiError. */
export const get = (path, params, signal) => ask(address(path, params), { signal });

/** Changes something. Throws ApiError. */
export function send(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (csrf) headers["X-CSRF-Token"] = csrf;
  return ask(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

/** Who is signed in. Throws ApiError 401 if nobody is. */
export async function session() {
  const found = await get("/v1/session");
  csrf = found.csrf_token;
  return found;
}

/** Signs in with a key. Throws ApiError 401 if it is none. */
export async function signIn(key) {
  const found = await send("POST", "/v1/session", { key });
  csrf = found.csrf_token;
  return found;
}

/** Signs out. */
export async function signOut() {
  await send("DELETE", "/v1/session");
  csrf = null;
}

async function ask(target, options) {
  let response;
  try {
    response = await fetch(target, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", NO_ANSWER);
  }
  if (response.status === 204) return null;
  let body = null;
  try {
    body = await response.json();
  } catch {
    // Not ours: a proxy's page, perhaps.
  }
  if (response.ok && body !== null) return body;
  const said = body?.error?.message ?? (typeof body?.error === "string" ? body.error : null);
  const error = new ApiError(response.status, body?.error?.code ?? "", sentence(said ?? `The server answered ${response.status}.`));
  if (response.status === 401 && !share()) window.dispatchEvent(new CustomEvent("signed-out"));
  throw error;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
