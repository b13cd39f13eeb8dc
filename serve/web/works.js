// What the browser stores of the work on an image, so that a reload or a crash loses nothing: the id of its session, and
// what the server does not store. A work is {id (of the session), source (address in the folder, or null), name, time,
// unsaved, clicks, draft: {name, color, at, parts}, look: [{number, name, color, visible}] in the order of the list}.

import { HERE } from "./api.js";

const PREFIX = `maskwright${HERE}-work-`;
const OPEN = `maskwright${HERE}-open`;
const CLAIM_MS = 1500; // a page that is being closed may keep its claims for a moment
const claims = new Map(); // id -> release()

function read(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null; // storage is disabled, or the text is from another version: treat it as empty
  }
}

function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch { /* storage is full or disabled: then a reload starts over, and everything else works */ }
}

/** All works, newest first. */
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

/** Mark works as exported. */
export function exported(ids) {
  for (const id of ids) {
    const work = get(id);
    if (work) write(localStorage, PREFIX + id, { ...work, unsaved: false });
  }
}

/** Claim a session for this tab; false if another tab has it. patient: wait for a page that may be closing. */
export function claim(id, patient = true) {
  if (claims.has(id) || !navigator.locks) return Promise.resolve(true); // without locks, the server refuses one of two changes
  return new Promise((resolve) => {
    const held = () => new Promise((release) => {
      claims.set(id, release);
      resolve(true);
    });
    const how = patient ? { signal: AbortSignal.timeout(CLAIM_MS) } : { ifAvailable: true };
    const take = (lock) => (lock ? held() : resolve(false));
    navigator.locks.request(PREFIX + id, how, take).catch(() => resolve(false)); // timed out
  });
}

/** The open work of this tab, {id, source}, or null. */
export const opened = () => read(sessionStorage, OPEN);
export const setOpened = (work) => write(sessionStorage, OPEN, work);
