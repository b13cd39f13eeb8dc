// The current object: finish it, edit a finished one, find more of a kind, start from a file; all on the server too.

import { isNumbered } from "./objects.js";
import { measure } from "./paint.js";
import { decode, encode } from "./rle.js";
import { $, message } from "./ui.js";

export const FINISH = window.matchMedia("(pointer: coarse)").matches ? "Finish" : "Enter";

export function bindMaking(page) {
  const { state, objects } = page;

  /** A mask (Uint8Array) as the view needs it. */
  function drafted(pixels) {
    const box = measure(pixels, state.image.width, state.image.height);
    return box.area > 0 ? { key: pixels, box, read: () => pixels } : null;
  }

  /** Wait until the server has answered everything; false if another image was opened meanwhile. */
  async function idle(session) {
    while (session && session === state.session && session.waiting > 0) await new Promise((done) => setTimeout(done, 40));
    return session === state.session;
  }

  function finish() {
    const { session, mask } = state;
    session?.release();
    state.finishing = Boolean(session?.waiting);
    if (!session || !mask || state.finishing) return;
    if (state.draft.parts) {
      finishParts();
      return;
    }
    message(`${state.draft.name} finished`);
    keep();
  }

  function keep() {
    const { session, mask, draft: { name, color, at, remade } } = state;
    const rle = encode(mask.read(), state.image.width, state.image.height, mask.box);
    Object.assign(state, { mask: null, shown: null });
    const object = objects.add({ name, color, at, remade, rle, box: mask.box, clicks: session.settled, base: session.wanted.base });
    state.draft = objects.next();
    session.finish(object);
  }

  // Make an object of each part of the mask that is not one yet.
  function finishParts() {
    const { session, draft: { name } } = state;
    const label = isNumbered(name) ? "" : name;
    state.finishing = true;
    session.finishParts(label, (bodies) => {
      const known = new Set(objects.objects.map(({ number }) => number));
      Object.assign(state, { mask: null, shown: null, finishing: false });
      const found = bodies.filter(({ number }) => !known.has(number)).map(({ number, mask: rle, area, bbox_xywh: [x, y, width, height] }) => {
        const next = objects.next();
        return objects.add({ ...next, name: label || next.name, number, rle, box: { x, y, width, height, area }, clicks: [], base: { mask: rle } });
      });
      state.draft = objects.next();
      message(found.length === 1 ? "1 more object found" : `${found.length || "No"} more objects found`);
      return found;
    }, () => { state.finishing = false; });
  }

  /** Wait for the server, and finish the current object; false if another image was opened meanwhile. */
  async function readied() {
    const { session } = state;
    session.release();
    if (!(await idle(session))) return false;
    if (state.mask && state.draft.parts) finish();
    else if (state.mask) keep();
    return !state.finishing || idle(session);
  }

  /** Start a search for more objects like this one: the next click, on one of them, finds the rest. */
  async function findRest(object) {
    if (!(await readied()) || !state.session.kept.has(object)) return;
    const next = objects.next();
    Object.assign(state, { mask: null, draft: { ...next, name: isNumbered(object.name) ? next.name : object.name, parts: true } });
    state.session.recall(object, () => { state.draft = objects.next(); });
    message(`Click one more object like ${object.name} to find the rest`);
    $("stage").focus({ preventScroll: true });
  }

  /** Undo all clicks; if there are none, end the search for more objects of a kind. */
  function clear() {
    const { session, draft } = state;
    if (!draft?.parts || session.clicks.length > 0) session?.clear();
    else {
      state.draft = objects.next();
      session.restart();
      message("Click the object to select it");
    }
  }

  async function edit(object) {
    if (!(await readied()) || !objects.objects.includes(object)) return;
    const { session } = state;
    const at = objects.take(object);
    state.draft = { name: object.name, color: object.color, at, remade: true, original: object };
    state.mask = drafted(object.read());
    state.quiet = true; // keep showing the known mask while the clicks are repeated
    message(`Editing ${object.name}`);
    if (session.kept.has(object)) session.edit(object);
    else session.restart(object.clicks, object.base);
    $("stage").focus({ preventScroll: true });
  }

  /** Add masks from a file: a single one becomes the current object, several are listed. */
  async function addMasks(masks) {
    const { session } = state;
    if (!(await readied())) return;
    const based = masks.map(({ name, rle, box }) => ({ name, rle, box, clicks: [], base: { mask: rle } }));
    if (based.length === 1) {
      const [{ name, rle, base }] = based;
      Object.assign(state.draft, { name: name ?? state.draft.name });
      state.mask = drafted(decode(rle));
      state.quiet = true; // the server is not called before the first click
      session.restart([], base);
      message(`Correct the mask with clicks, then ${FINISH}`);
    } else {
      for (const object of based) session.keep(objects.add({ ...objects.next(), ...object, name: object.name ?? objects.next().name }));
      if (session.clicks.length) session.restart();
      state.draft = objects.next();
      message(`${based.length} objects loaded`);
    }
    page.refresh();
  }

  Object.assign(page, { drafted, idle, finish, keep, readied, findRest, clear, edit, addMasks });
}
