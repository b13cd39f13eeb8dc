// The calls of /v1. Every failure becomes an ApiError with the server's stable code and its message.

export class ApiError extends Error {
  constructor(code, detail, status) {
    super(detail);
    this.code = code;
    this.status = status;
  }
  /** The same call may succeed later. */
  get transient() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status === 502 ||
      this.status === 503 || this.status === 504;
  }
  get lost() {
    return this.code === "session_expired" || this.code === "session_unknown";
  }
}

// The token comes with the address, as #token=..., or the user is prompted for it once. It is kept in this tab, under a key
// with the path, because other paths of the same origin may belong to other servers.
const folder = new URL(".", location.href).pathname;
export const HERE = folder === "/" ? "" : folder;
const KEY = `maskwright${HERE}-token`;
const brought = /^#token=(.+)$/.exec(location.hash);
if (brought) {
  sessionStorage.setItem(KEY, decodeURIComponent(brought[1]));
  history.replaceState(null, "", location.pathname + location.search); // keep it out of bookmarks and shared screens
}
let asked = false;

function askForToken() {
  if (asked) return;
  asked = true;
  const given = prompt("This server requires a token:")?.trim();
  if (given) sessionStorage.setItem(KEY, given);
}

/** fetch with the token, only for addresses of this server. A request that was refused as too fast is sent again. */
export async function send(path, options = {}, tries = 5) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 429 && tries > 1) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((done) => setTimeout(done, 1000 * Math.min(seconds, 30)));
    return send(path, options, tries - 1);
  }
  if (response.status !== 401) return response;
  // Another call may have prompted for the token meanwhile.
  if (sessionStorage.getItem(KEY) === token) askForToken();
  return sessionStorage.getItem(KEY) === token ? response : send(path, options);
}

/** An address that an <img> can load although it sends no token. */
export async function source(path) {
  if (!sessionStorage.getItem(KEY)) return path;
  return URL.createObjectURL(await (await send(path)).blob());
}

async function call(path, { read = "json", ...options } = {}) {
  let response;
  try {
    response = await send(path, options);
  } catch {
    throw new ApiError("unreachable", "The server does not answer. Is it still running?", 0);
  }
  if (response.ok) return response.status === 204 ? null : response[read]();
  let problem = {};
  try {
    problem = await response.json();
  } catch { /* a proxy may answer in HTML; then the status has to suffice */ }
  throw new ApiError(problem.code ?? "unknown", problem.detail ?? `The server answered with status ${response.status}.`, response.status);
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}

export const health = () => call("v1/health");
export const examples = () => call("v1/examples");

/** The models of the server, or null if it does not list them. */
export async function models() {
  try {
    return (await call("v1/models")).models;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** settings: model, refinement, mask_threshold; given: mask, exemplar. All are optional. */
export async function openSession(blob, settings = {}, given = {}) {
  const wanted = Object.fromEntries(Object.entries({ ...settings, ...given }).filter(([, value]) => value !== null && value !== undefined));
  if (given.mask || given.exemplar) return call("v1/sessions", json({ image: await dataUri(blob), ...wanted }));
  const headers = { "Content-Type": blob.type || "application/octet-stream" };
  return call(`v1/sessions${query(settings)}`, { method: "POST", headers, body: blob });
}

export const sessionState = (id) => call(`v1/sessions/${id}`);
export const closeSession = (id) => call(`v1/sessions/${id}`, { method: "DELETE", keepalive: true });
/** kind: "clicks" (body x, y, positive), "undo", "clear", "settings", or a kind of errands.js. */
export const change = (id, kind, body, method = "POST") => call(`v1/sessions/${id}/${kind}`, { ...json(body), method });
export const objects = async (id) => (await call(`v1/sessions/${id}/objects`)).objects;
export const mask = (id) => call(`v1/sessions/${id}/mask?format=rle`);
export const image = (id) => call(`v1/sessions/${id}/image`, { read: "blob" });
export const steps = async (id) => (await call(`v1/sessions/${id}/steps`)).steps;
export const probability = (id) => call(`v1/sessions/${id}/probability`, { read: "blob" });

/** The socket of a session. A page can send the token only as a subprotocol. */
export function live(id) {
  const address = new URL(`v1/sessions/${id}/live?mask=bits`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = "";
  const token = sessionStorage.getItem(KEY);
  return token ? new WebSocket(address, ["bearer", token]) : new WebSocket(address);
}
