// What the browser remembers of the work on an image, so that a reload or a crash loses nothing: which session has it, and
// what the server has no place for. A work is {id (of the session), source (address in the folder, or null), name, time,
// unsaved, clicks, draft: {name, color, at, parts}, look: [{number, name, color, visible}] in the order of the list}.

import { HERE } from "./api.js";

const PREFIX = `maskwright${HERE}-work-`;
const OPEN = `maskwright${HERE}-open`;
const CLAIM_MS = 1500; // a page that is being left may hold its claims for a moment
const claims = new Map(); // id -> release()

function read(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null; // storage that is switched off, or text of another version: nothing is remembered
  }
}

function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch { /* full, or switched off: then a reload begins again, and nothing else is worse */ }
}

/** All works, the newest first. */
export function all() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  return keys.map((key) => read(localStorage, key)).filter((work) => work?.id).sort((a, b) => b.time - a.time);
}

export const get = (id) => read(localStorage, PREFIX + id);

export function save(work) {
  if (!claims.has(work.id)) claim(work.id);
  write(localStorage, PREFIX + work.id, { ...work, time: Date.now() });
}

export function forget(id) {
  localStorage.removeItem(PREFIX + id);
  claims.get(id)?.();
  claims.delete(id);
}

/** Everything was exported. */
export function exported(ids) {
  for (const id of ids) {
    const work = get(id);
    if (work) write(localStorage, PREFIX + id, { ...work, unsaved: false });
  }
}

/** Whether this tab may have the session: no other one of this browser works on it. patient: a page may be just leaving it. */
export function claim(id, patient = true) {
  if (claims.has(id) || !navigator.locks) return Promise.resolve(true); // without locks, the server refuses the slower one
  return new Promise((resolve) => {
    const held = () => new Promise((release) => {
      claims.set(id, release);
      resolve(true);
    });
    const how = patient ? { signal: AbortSignal.timeout(CLAIM_MS) } : { ifAvailable: true };
    const take = (lock) => (lock ? held() : resolve(false));
    navigator.locks.request(PREFIX + id, how, take).catch(() => resolve(false)); // it took too long
  });
}

/** What is open in this tab: {id, source}, or null. */
export const opened = () => read(sessionStorage, OPEN);
export const setOpened = (work) => write(sessionStorage, OPEN, work);
