// Client of the public API.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Message for a server that does not answer. */
export const NO_ANSWER = "The server does not answer. It may be restarting; try again in a moment.";

let csrf = null;
let everyTenant = false;

/** Returns the token of a link to one call if the visitor opened such a link, else null. */
export const share = () => (location.pathname.startsWith("/calls/") ? new URLSearchParams(location.search).get("share") : null);

/** Returns an address of the API with these parameters, to fetch, play or download. */
export const address = (path, params = {}) => withQuery(path, { ...params, share: share() });

function withQuery(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== null && value !== undefined && value !== "") query.set(name, value);
  const text = query.toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

/** Returns the tenant as a parameter for the address of its call; nothing if the visitor sees one tenant only. */
const owner = (tenant) => (everyTenant ? { tenant } : {});

/** Returns the path of a call, or of something below it, in the API. tenant: owner of the call. */
export const callPath = (id, tenant, below = "", params = {}) => withQuery(`/v1/calls/${encodeURIComponent(id)}${below}`, { ...params, ...owner(tenant) });

/** Returns the address of a call's page. tenant: owner of the call. */
export const callPage = (id, tenant, params = {}) => withQuery(`/calls/${encodeURIComponent(id)}`, { ...owner(tenant), ...params });

/** Returns the JSON at a path. Throws ApiError. */
export const get = (path, params, signal) => request(address(path, params), { signal });

/** Sends a change and returns the JSON of the response. Throws ApiError. */
export function send(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (csrf) headers["X-CSRF-Token"] = csrf;
  return request(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

/** Returns the session. Throws ApiError 401 if the visitor is not signed in. */
export async function session() {
  const found = await get("/v1/session");
  csrf = found.csrf_token;
  everyTenant = found.tenant === null;
  return found;
}

/** Signs in with a key. Throws ApiError 401 if the key is unknown. */
export async function signIn(key) {
  const found = await send("POST", "/v1/session", { key });
  csrf = found.csrf_token;
  everyTenant = found.tenant === null;
  return found;
}

/** Signs out. */
export async function signOut() {
  await send("DELETE", "/v1/session");
  csrf = null;
}

async function request(target, options) {
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
    // Not a response of the API, perhaps a proxy's error page.
  }
  if (response.ok && body !== null) return body;
  const said = body?.error?.message ?? (typeof body?.error === "string" ? body.error : null);
  const error = new ApiError(response.status, body?.error?.code ?? "", sentence(said ?? `The server answered ${response.status}.`));
  if (response.status === 401 && !share()) window.dispatchEvent(new CustomEvent("signed-out"));
  throw error;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
