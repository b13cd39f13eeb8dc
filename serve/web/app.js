// Puts the page together: images in, clicks to the session, masks to the view, objects to the list. tools.js has the rest.

import { message, busy, toast, duration, $ } from "./ui.js";
import { cocoJson, save } from "./exports.js";
import { Folder } from "./folder.js";
import { Hover } from "./hover.js";
import { Input } from "./input.js";
import { Inside } from "./inside.js";
import { Magnifier } from "./magnifier.js";
import { Models } from "./models.js";
import { ObjectList } from "./objects.js";
import { measure } from "./paint.js";
import { decode, encode } from "./rle.js";
import { Session } from "./session.js";
import { bindTools } from "./tools.js";
import { View } from "./view.js";

const ACCEPTED = ["image/jpeg", "image/png", "image/webp"];
const DOUBLE_MS = 400; // a second press so soon is a double click, not meant for the dot
const FINISH = window.matchMedia("(pointer: coarse)").matches ? "Finish" : "Enter";

const state = {
  image: null, session: null, adding: true, draft: null, decoded: null, loading: 0, finishing: false, quiet: false,
  mask: null,         // of the draft: {key, box, read()}
  shown: null,        // a step's mask in place of the draft's
  album: new Map(),   // the folder's images that were worked on: {name, width, height, objects}
};
const madeAt = new WeakMap(); // of clicks
const view = new View($("stage"));
const objects = new ObjectList($("objects"), { onChange: refresh, onEdit: edit });
const magnifier = new Magnifier(view, $("magnifier"));
const folder = new Folder();
const hover = new Hover(view, () => state.mask?.read() ?? null);
const models = new Models((settings) => state.session?.set(settings));
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
async function open(blob, name, index = -1) {
  const within = index >= 0 && (folder.at >= 0 || !unsaved());
  if (document.querySelector("dialog[open]") || !(within || (await mayLeave()))) return;
  const turn = ++state.loading;
  busy("Opening the image");
  let session = null;
  try {
    if (blob.type && !ACCEPTED.includes(blob.type)) throw new Error("This is not a JPEG, PNG or WebP image.");
    // The server turns the image as its EXIF says; so does this.
    const decoding = createImageBitmap(blob, { imageOrientation: "from-image" });
    decoding.catch(() => {}); // the server's words are better, if it refuses the image too
    session = new Session(blob, { onChange: onSession, onError: refused, settings: models.settings });
    await session.open();
    const image = await decoding;
    if (turn !== state.loading) { session.close(); return; }
    state.session?.close();
    store(within);
    show(session, image, name, index);
  } catch (error) {
    if (session !== state.session) session?.close();
    toast(`${name}: ${error.message}`);
  } finally {
    if (turn === state.loading) busy(null);
  }
}

function show(session, image, name, index) {
  const { width, height } = image;
  const known = state.album.get(index);
  Object.assign(state, { session, image: { name, width, height, index }, mask: null, shown: null, decoded: null, finishing: false, quiet: false });
  view.show(image);
  objects.reset(known?.objects);
  state.draft = objects.next();
  hover.attach(session);
  folder.opened(index);
  $("welcome").hidden = true;
  document.body.classList.remove("empty");
  $("stage").classList.add("loaded");
  $("file-name").textContent = name;
  $("file-name").title = name;
  $("status-size").textContent = `${width} × ${height}`;
  message("Click the object to select it");
  $("stage").focus({ preventScroll: true });
  refresh();
}

// Keep the objects of the folder's image that is left; of anything else, nothing.
function store(within) {
  if (!within) state.album.clear();
  else if (state.image?.index >= 0) {
    if (objects.objects.length) state.album.set(state.image.index, { ...state.image, objects: objects.objects });
    else state.album.delete(state.image.index);
  }
  if (!within) objects.unsaved = false;
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
  session?.release();
  try {
    const { name, blob } = await folder.fetch(index);
    if (!(await idle(session))) return; // another one was quicker
    if (folder.at >= 0 && state.mask) keep();
    await open(blob, name, index);
  } catch (error) {
    busy(null);
    toast(`${folder.entries[index].name}: ${error.message}`);
  }
}

/** The open image and those of the folder that have objects, as they are exported. */
function images() {
  const all = new Map(state.album);
  if (state.image.index >= 0) all.set(state.image.index, { ...state.image, objects: objects.objects });
  const list = state.image.index >= 0 ? [...all.keys()].sort((a, b) => a - b).map((at) => all.get(at)) : [{ ...state.image, objects: objects.objects }];
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
  if (!state.draft.remade) return;
  if (state.mask && state.session.waiting === 0) keep();
  else objects.add({ ...state.draft.original, at: state.draft.at, remade: true });
  Object.assign(state, { draft: objects.next(), mask: null, quiet: false });
  state.session.restart();
}

function exportCoco() {
  const name = images().length > 1 ? "annotations" : state.image.name.replace(/\.[^.]*$/, "");
  const text = JSON.stringify(cocoJson(images(), { polygons: $("polygons").checked }));
  save(new Blob([text], { type: "application/json" }), `${name}.json`);
  objects.unsaved = Boolean(state.draft.remade);
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
      $("status-time").textContent = duration(answer.milliseconds);
      $("status-model").textContent = answer.model_version;
      if (answer.num_clicks > (before?.num_clicks ?? 0)) hover.took(answer.milliseconds, answer.num_clicks);
      if (answer.honoured === false) message("The mask does not follow the last click: click once more nearby");
      else message(session.clicks.length ? `Correct with more clicks, then ${FINISH}` : "Click the object to select it");
    } else state.mask = session.wanted.base?.mask ? drafted(decode(session.wanted.base.mask)) : null;
    hover.stop();
  }
  refresh();
  if (session.waiting === 0) inside.update(session, state.draft.color);
  if (state.finishing && session.waiting === 0) finish();
}

function finish() {
  const { session, mask } = state;
  session?.release();
  state.finishing = Boolean(session?.waiting);
  if (!session || !mask || state.finishing) return;
  message(`${state.draft.name} finished`);
  keep();
  session.restart();
}

function keep() {
  const { session, mask, draft } = state;
  const rle = encode(mask.read(), state.image.width, state.image.height, mask.box);
  Object.assign(state, { mask: null, shown: null });
  objects.add({ ...draft, rle, box: mask.box, clicks: session.settled, base: session.wanted.base });
  state.draft = objects.next();
}

function edit(object) {
  if (state.session.waiting > 0) {
    message("Wait for the mask, then edit");
    return;
  }
  if (state.mask) keep();
  const at = objects.take(object);
  state.draft = { name: object.name, color: object.color, at, remade: true, original: object };
  state.mask = drafted(object.read());
  state.quiet = true; // while its clicks are repeated, the mask that is known already stays
  message(`Editing ${object.name}`);
  state.session.restart(object.clicks, object.base);
  $("stage").focus({ preventScroll: true });
}

/** Masks from a file: a single one is opened to be corrected, several are listed. */
async function addMasks(masks) {
  const { session } = state;
  session.release();
  if (!(await idle(session))) return;
  if (state.mask) keep();
  const based = masks.map(({ name, rle, box }) => ({ name, rle, box, clicks: [], base: { mask: rle } }));
  if (based.length === 1) {
    const [{ name, rle, base }] = based;
    Object.assign(state.draft, { name: name ?? state.draft.name });
    state.mask = drafted(decode(rle));
    state.quiet = true; // nothing is asked before the first click
    session.restart([], base);
    message(`Correct the mask with clicks, then ${FINISH}`);
  } else {
    for (const object of based) objects.add({ ...objects.next(), ...object, name: object.name ?? objects.next().name });
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
  paint();
  const { clicks, waiting } = session;
  view.setClicks(clicks, waiting ? session.settled.length : clicks.length);
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

bindTools({ state, view, input, objects, folder, models, hover, inside, magnifier, open, openFrom, click, finish, refresh, exportCoco, addMasks });
