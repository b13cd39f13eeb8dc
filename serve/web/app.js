// Puts the page together: images in, clicks to the session, masks to the view, objects to the list. tools.js has the rest.

import * as api from "./api.js";
import { message, busy, toast, duration, attempt, $ } from "./ui.js";
import { cocoJson, save } from "./exports.js";
import { Folder } from "./folder.js";
import { Hover } from "./hover.js";
import { Input } from "./input.js";
import { Inside } from "./inside.js";
import { Magnifier } from "./magnifier.js";
import { Models } from "./models.js";
import { ObjectList, colorOf, isNumbered } from "./objects.js";
import { measure } from "./paint.js";
import { keepAlive, recall, revive } from "./resume.js";
import { decode, encode } from "./rle.js";
import { Session } from "./session.js";
import { bindTools } from "./tools.js";
import { View } from "./view.js";
import * as works from "./works.js";

const ACCEPTED = ["image/jpeg", "image/png", "image/webp"];
const DOUBLE_MS = 400; // a second press so soon is a double click, not meant for the dot
const FINISH = window.matchMedia("(pointer: coarse)").matches ? "Finish" : "Enter";

const state = {
  image: null, session: null, adding: true, draft: null, decoded: null, loading: 0, finishing: false, quiet: false,
  mask: null,         // of the draft: {key, box, read()}
  shown: null,        // a step's mask in place of the draft's
  album: new Map(),   // the folder's images that were worked on: {name, width, height, index, source, objects, id}
  workId: null,       // of the session under which the browser remembers what is open
  version: null,      // {model, version} that has answered last
};
const madeAt = new WeakMap(); // of clicks
const view = new View($("stage"));
const objects = new ObjectList($("objects"), {
  onChange: refresh, onEdit: edit, onFind: findRest,
  onDrop: (object) => { if (state.session.kept.has(object)) state.session.drop(object); },
  canFind: () => Boolean(models.current?.takes_exemplar),
});
const magnifier = new Magnifier(view, $("magnifier"));
const folder = new Folder();
const hover = new Hover(view, () => state.mask?.read() ?? null);
const models = new Models((settings) => {
  state.session?.set(settings);
  objects.show();
});
const inside = new Inside(view, $("steps"), {
  onStep: (step) => { state.shown = step && drafted(step.mask); paint(); },
  onError: (error) => toast(error.message),
});
const input = new Input(view, {
  onClick: (pixel, positive, { hold }) => { view.cursor = null; click(pixel, positive, hold); },
  onDot: (dot) => { if (performance.now() - madeAt.get(dot) > DOUBLE_MS) removeClick(dot); },
  onHover: (place) => {
    const pixel = place && view.pixelAt(place);
    $("status-cursor").textContent = pixel ? `x ${pixel.x}  y ${pixel.y}` : "";
    const dot = place && view.clickAt(place);
    view.aim(dot || null);
    magnifier.look(place);
    hover.at(dot ? null : pixel, state.adding);
  },
  onTouch: (place) => magnifier.look(place, place !== null),
  mode: () => state.adding,
});
view.onDraw = () => {
  $("zoom").textContent = view.image ? `${Math.round(view.scale * 100)}%` : "Fit";
  $("heat-legend").hidden = view.overlay === null;
  magnifier.draw();
};

// Images in

/** Open a file; index: its place in the folder, whose objects are kept until they are exported. */
async function open(blob, name, index = -1, known = state.album.get(index)) {
  const within = index >= 0 && (folder.at >= 0 || !state.image || !unsaved());
  if (document.querySelector("dialog[open]") || !(within || (await mayLeave()))) return;
  const turn = ++state.loading;
  busy("Opening the image");
  let session = null, fresh = true;
  try {
    if (blob.type && !ACCEPTED.includes(blob.type)) throw new Error("This is not a JPEG, PNG or WebP image.");
    // The server turns the image as its EXIF says; so does this.
    const decoding = createImageBitmap(blob, { imageOrientation: "from-image" });
    decoding.catch(() => {}); // the server's words are better, if it refuses the image too
    session = new Session(blob, { onChange: onSession, onError: refused, settings: models.settings });
    fresh = !(known && (await revive(session, known.id, known.objects)));
    if (fresh) {
      session.kept = new Set(known?.objects);
      await session.open();
    } else if (state.session) session.set(models.settings);
    const image = await decoding;
    if (turn !== state.loading) { leave(session, fresh); return; }
    leaveOpen(within);
    show(session, image, name, index, known);
  } catch (error) {
    if (session && session !== state.session) leave(session, fresh);
    toast(`${name}: ${error.message}`);
  } finally {
    if (turn === state.loading) busy(null);
  }
}

function show(session, image, name, index, known) {
  const { width, height } = image;
  const source = folder.entries[index]?.url ?? null, { draft } = works.get(session.id) ?? {};
  Object.assign(state, { session, image: { name, width, height, index, source }, mask: null, shown: null, decoded: null, finishing: false, quiet: false });
  state.version = { model: session.opened.settings.model, version: session.told.model_version };
  models.adopt(session.wanted.settings);
  view.show(image);
  objects.reset(known?.objects);
  objects.unsaved ||= Boolean(known?.unsaved);
  state.draft = { ...objects.next(), ...draft };
  hover.attach(session);
  clearInterval(state.keeping);
  state.keeping = keepAlive(() => [state.session.id, ...[...state.album.values()].map(({ id }) => id)].filter(Boolean), Math.min(300, session.told.expires_in_s / 3) * 1000);
  folder.opened(index);
  $("welcome").hidden = true;
  document.body.classList.remove("empty");
  $("stage").classList.add("loaded");
  $("file-name").textContent = name;
  $("file-name").title = name;
  $("status-size").textContent = `${width} × ${height}`;
  message("Click the object to select it");
  $("stage").focus({ preventScroll: true });
  onSession(session);
}

function leave(session, forGood) {
  if (!forGood) {
    session.leave();
    return;
  }
  works.forget(session.id);
  session.close();
}

// The folder's image that is left keeps its objects, and the server its session; of anything else, nothing stays.
function leaveOpen(within) {
  const { session, image, album } = state;
  if (!within) {
    for (const { id } of album.values()) {
      if (id === session?.id) continue;
      works.forget(id);
      api.closeSession(id).catch(() => {}); // it would expire by itself
    }
    album.clear();
    objects.unsaved = false;
  }
  if (!session) return;
  const stays = within && image.index >= 0 && objects.objects.length > 0;
  if (stays) album.set(image.index, { ...image, objects: objects.objects, id: session.id });
  else album.delete(image.index);
  leave(session, !stays);
  state.workId = null;
}

/** What the browser remembers of the open image: to be called after every change. */
function remember() {
  const { session, image, draft, mask } = state, { source, name } = image, { id } = session;
  if (!id) return; // it is being made anew
  if (state.workId && state.workId !== id) works.forget(state.workId);
  state.workId = id;
  works.setOpened({ id, source });
  const nothing = !objects.objects.length && !session.clicks.length && !mask;
  if (nothing && source) { works.forget(id); return; }
  const look = objects.objects.map(({ number, name: called, color, visible }) => ({ number, name: called, color, visible }));
  const { name: label, color, at, parts } = draft;
  works.save({ id, source, name, unsaved: objects.unsaved, clicks: session.clicks, draft: { name: label, color, at, parts }, look });
}

/** Whether nothing would be lost with the session. */
const isIdle = () => Boolean(state.image?.source) && !works.get(state.session?.id);

let recalled;
const recalling = new Promise((resolve) => { recalled = resolve; });

/** Take up what the page had before it was reloaded, or offer what another time left. */
async function resume(listed) {
  try {
    await listed;
    const { found, lost } = await recall(colorOf);
    if (lost.length) toast(`The server has forgotten the work on ${lost.join(", ")}: nobody used it for too long, or it was started anew. A new session begins.`, "note");
    const left = [];
    for (const { work: { id, source, name, unsaved: open }, told: { width, height }, objects: list } of found) {
      const index = folder.indexOf(source);
      if (index >= 0) state.album.set(index, { id, source, name, width, height, index, objects: list });
      left.push({ id, name, index, objects: list, unsaved: open });
      if (index >= 0) objects.unsaved ||= open;
    }
    recalled();
    const opened = works.opened(), index = folder.indexOf(opened?.source);
    const same = left.find(({ id }) => id === opened?.id);
    if (state.session || state.loading) return;
    if (same || index >= 0) await openLeft(same ?? { index });
    else offer(left);
  } finally {
    recalled();
  }
}

async function openLeft({ index, name, ...known }) {
  if (index >= 0) return openFrom(index);
  busy("Opening the image");
  try {
    const blob = await api.image(known.id);
    state.album.clear(); // the browser remembers it, and offers it another time
    await open(blob, name, -1, known);
  } finally {
    busy(null);
  }
}

function offer(left) {
  $("left").replaceChildren(...left.slice(0, 4).map((work) => {
    const count = work.objects.length;
    const button = Object.assign(document.createElement("button"), { className: "button", textContent: work.name });
    button.append(Object.assign(document.createElement("small"), { textContent: `${count} ${count === 1 ? "object" : "objects"}` }));
    button.addEventListener("click", attempt(() => openLeft(work)));
    return button;
  }));
  $("left-block").hidden = left.length === 0;
}

/** Wait until the server has answered for everything; false if another image took the place meanwhile. */
async function idle(session) {
  while (session && session === state.session && session.waiting > 0) await new Promise((done) => setTimeout(done, 40));
  return session === state.session;
}

/** Open another image of the folder; what is being made is finished first. */
async function openFrom(index) {
  if (!folder.has(index)) return;
  busy("Opening the image");
  const { session } = state;
  try {
    await recalling;
    const { name, blob } = await folder.fetch(index);
    if (session && !(await readied())) return; // another one was quicker
    if (!(await idle(session))) return;
    await open(blob, name, index);
  } catch (error) {
    busy(null);
    toast(`${folder.entries[index].name}: ${error.message}`);
  }
}

/** The open image and those of the folder that have objects, as they are exported. */
function images() {
  const all = new Map(state.album), { image } = state;
  if (image?.index >= 0) all.set(image.index, { ...image, objects: objects.objects });
  const inFolder = !image || image.index >= 0;
  const list = inFolder ? [...all.keys()].sort((a, b) => a - b).map((at) => all.get(at)) : [{ ...image, objects: objects.objects }];
  return list.length > 1 ? list.filter((image) => image.objects.length > 0) : list;
}

/** Whether there are finished objects, or one that is being edited, that no export holds. */
function unsaved() {
  return objects.unsaved && (objects.objects.length > 0 || state.album.size > 0 || Boolean(state.draft?.remade));
}

/** Ask before another image takes the place of objects that were not exported; true: go on. */
function mayLeave() {
  if (!unsaved()) return true;
  const dialog = $("leave");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    if (dialog.returnValue === "export") {
      putBack();
      exportCoco();
    }
    resolve(dialog.returnValue !== "");
  }, { once: true }));
}

/** Return the object that is being edited to the list, as it is now, or as it was while its mask is awaited. */
function putBack() {
  const { draft, session } = state;
  if (!draft?.remade) return;
  if (state.mask && session.waiting === 0) keep();
  else {
    session.keep(objects.add({ ...draft.original, at: draft.at, remade: true }));
    session.restart();
  }
  Object.assign(state, { draft: objects.next(), mask: null, quiet: false });
}

function exportCoco() {
  const name = images().length > 1 ? "annotations" : images()[0].name.replace(/\.[^.]*$/, "");
  const text = JSON.stringify(cocoJson(images(), { polygons: $("polygons").checked }));
  save(new Blob([text], { type: "application/json" }), `${name}.json`);
  objects.unsaved = Boolean(state.draft?.remade);
  works.exported([...state.album.values()].map(({ id }) => id));
  refresh();
}

// Clicks and masks

function click({ x, y }, positive, hold = false) {
  const { session } = state;
  if (!session) return;
  hover.stop();
  session.click(x, y, positive, { hold });
  madeAt.set(session.clicks.at(-1), performance.now());
  if (hold) message("Release Shift to send the clicks");
}

function removeClick(dot) {
  view.aim(null);
  state.session.remove(dot);
}

function refused(error) {
  toast(error.message);
  if (state.session) models.adopt(state.session.wanted.settings);
}

/** A mask (Uint8Array) as the view takes it. */
function drafted(pixels) {
  const box = measure(pixels, state.image.width, state.image.height);
  return box.area > 0 ? { key: pixels, box, read: () => pixels } : null;
}

function onSession(session) {
  if (session !== state.session) return;
  const { answer } = session;
  if (session.waiting === 0) state.quiet = false;
  if (answer !== state.decoded && !state.quiet) {
    const before = state.decoded;
    state.decoded = answer;
    if (answer) {
      state.mask = drafted(answer.pixels);
      if (answer.milliseconds !== undefined) $("status-time").textContent = duration(answer.milliseconds);
      const rolled = answered(answer.model_version);
      if (answer.num_clicks > (before?.num_clicks ?? 0)) hover.took(answer.milliseconds, answer.num_clicks);
      if (answer.honoured === false) message("The mask does not follow the last click: click once more nearby");
      else if (rolled) message(`The model was updated to ${answer.model_version}; the clicks go on with it`);
      else message(session.clicks.length || state.mask ? `Correct with more clicks, then ${FINISH}` : "Click the object to select it");
    } else state.mask = session.wanted.base?.mask ? drafted(decode(session.wanted.base.mask)) : null;
    hover.stop();
  }
  refresh();
  if (session.waiting === 0) inside.update(session, state.draft.color);
  if (state.finishing && session.waiting === 0) finish();
}

/** Which version answers; true if another one of the same model did before. */
function answered(version) {
  const { model } = state.session.opened.settings, { version: before } = state;
  state.version = { model, version };
  $("status-model").textContent = version;
  return before?.model === model && before.version !== version;
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

// What was found of a kind: each part that is no object yet is one.
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

/** Wait for the server, and finish what is at hand; false if another image took the place meanwhile. */
async function readied() {
  const { session } = state;
  session.release();
  if (!(await idle(session))) return false;
  if (state.mask && state.draft.parts) finish();
  else if (state.mask) keep();
  return !state.finishing || idle(session);
}

/** Look for the others of an object's kind: the next click, on one of them, brings them. */
async function findRest(object) {
  if (!(await readied()) || !state.session.kept.has(object)) return;
  const next = objects.next();
  Object.assign(state, { mask: null, draft: { ...next, name: isNumbered(object.name) ? next.name : object.name, parts: true } });
  state.session.recall(object, () => { state.draft = objects.next(); });
  message(`Click one more like ${object.name}: the rest of its kind follows`);
  $("stage").focus({ preventScroll: true });
}

async function edit(object) {
  if (!(await readied()) || !objects.objects.includes(object)) return;
  const { session } = state;
  const at = objects.take(object);
  state.draft = { name: object.name, color: object.color, at, remade: true, original: object };
  state.mask = drafted(object.read());
  state.quiet = true; // while its clicks are repeated, the mask that is known already stays
  message(`Editing ${object.name}`);
  if (session.kept.has(object)) session.edit(object);
  else session.restart(object.clicks, object.base);
  $("stage").focus({ preventScroll: true });
}

/** Masks from a file: a single one is opened to be corrected, several are listed. */
async function addMasks(masks) {
  const { session } = state;
  if (!(await readied())) return;
  const based = masks.map(({ name, rle, box }) => ({ name, rle, box, clicks: [], base: { mask: rle } }));
  if (based.length === 1) {
    const [{ name, rle, base }] = based;
    Object.assign(state.draft, { name: name ?? state.draft.name });
    state.mask = drafted(decode(rle));
    state.quiet = true; // nothing is asked before the first click
    session.restart([], base);
    message(`Correct the mask with clicks, then ${FINISH}`);
  } else {
    for (const object of based) session.keep(objects.add({ ...objects.next(), ...object, name: object.name ?? objects.next().name }));
    if (session.clicks.length) session.restart();
    state.draft = objects.next();
    message(`${based.length} objects loaded`);
  }
  refresh();
}

function paint() {
  if (!state.image) return;
  const shown = objects.objects.filter((object) => object.visible);
  const mask = state.shown ?? state.mask;
  view.setMasks([...shown, ...(mask ? [{ ...mask, color: state.draft.color }] : [])]);
}

function refresh() {
  const { session, mask, draft } = state;
  if (!session) return;
  remember();
  paint();
  const { clicks, waiting } = session;
  view.setClicks(clicks, session.numSettled);
  const count = objects.objects.length;
  $("object-count").textContent = count;
  $("no-objects").hidden = count > 0 || Boolean(mask);
  $("draft").hidden = !mask;
  $("draft-name").textContent = `${draft.name}, in progress`;
  $("draft-swatch").style.borderColor = draft.color;
  $("undo").disabled = !session.canUndo;
  $("clear").disabled = clicks.length === 0;
  $("redo").disabled = !session.canRedo;
  $("finish").disabled = !mask || waiting > 0;
  $("export-coco").disabled = count === 0 && state.album.size === 0;
  $("export-index").disabled = $("export-objects").disabled = count === 0;
  $("export-mask").disabled = !mask && count === 0;
  $("load-mask").disabled = false;
  $("folder").hidden = folder.entries.length < 2;
  $("previous").disabled = !folder.has(folder.at - 1);
  $("next").disabled = !folder.has(folder.at + 1);
  $("folder-at").textContent = folder.at >= 0 ? `${folder.at + 1} / ${folder.entries.length}` : "";
  $("status-clicks").textContent = `${clicks.length} ${clicks.length === 1 ? "click" : "clicks"}`;
  $("status-area").textContent = mask ? `${mask.box.area.toLocaleString("en")} px` : "";
  // Only where it is needed: browsers keep no page in memory that listens to this.
  if (unsaved()) window.addEventListener("beforeunload", warn);
  else window.removeEventListener("beforeunload", warn);
  // A short wait needs no sign; a long one does.
  clearTimeout(state.waitTimer);
  if (waiting > 0 && !session.held) state.waitTimer = setTimeout(() => busy(`Computing ${waiting > 1 ? `(${waiting} waiting)` : ""}`), 400);
  else busy(null);
}

function warn(event) {
  event.preventDefault();
}

bindTools({ state, view, input, objects, folder, models, hover, inside, magnifier, resume, isIdle, open, openFrom, click, finish, refresh, exportCoco, addMasks });
