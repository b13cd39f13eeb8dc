// Puts the page together: files in, clicks to the session, masks to the view, objects to the list, keys to all of them.

import * as api from "./api.js";
import { cocoJson, indexPng, maskPng, save } from "./exports.js";
import { Input } from "./input.js";
import { ObjectList } from "./objects.js";
import { decode } from "./rle.js";
import { Session } from "./session.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const ACCEPTED = ["image/jpeg", "image/png", "image/webp"];

const state = { image: null, session: null, adding: true, draft: null, mask: null, decoded: null, loading: 0, finishing: false, quiet: false };
const view = new View($("stage"));
const objects = new ObjectList($("objects"), { onChange: refresh, onEdit: edit });
const input = new Input(view, {
  onClick: (pixel, positive) => { view.cursor = null; click(pixel, positive); },
  onHover: (pixel) => { $("status-cursor").textContent = pixel ? `x ${pixel.x}  y ${pixel.y}` : ""; },
  mode: () => state.adding,
});
view.onDraw = () => { $("zoom").textContent = view.image ? `${Math.round(view.scale * 100)}%` : "Fit"; };

// Images in

async function open(blob, name) {
  if (document.querySelector("dialog[open]") || !(await mayLeave())) return;
  const turn = ++state.loading;
  busy("Opening the image");
  let session = null;
  try {
    if (blob.type && !ACCEPTED.includes(blob.type)) throw new Error("This is not a JPEG, PNG or WebP image.");
    session = new Session(blob, { onChange: onSession, onError: (error) => toast(error.message) });
    await session.open();
    // The server has turned the image as its EXIF says; so does this.
    const image = await createImageBitmap(blob, { imageOrientation: "from-image" });
    if (turn !== state.loading) { session.close(); return; }
    state.session?.close();
    Object.assign(state, { session, image: { name, width: image.width, height: image.height }, mask: null, decoded: null, finishing: false, quiet: false });
    view.show(image);
    objects.reset();
    state.draft = objects.next();
    $("welcome").hidden = true;
    $("stage").classList.add("loaded");
    $("file-name").textContent = name;
    $("file-name").title = name;
    $("status-size").textContent = `${image.width} × ${image.height}`;
    message("Click the object to select it");
    $("stage").focus({ preventScroll: true });
    refresh();
  } catch (error) {
    if (session !== state.session) session?.close();
    toast(`${name}: ${error.message}`);
  } finally {
    if (turn === state.loading) busy(null);
  }
}

/** Finished objects, or one that is being edited, that no export holds. */
function unsaved() {
  return objects.unsaved && (objects.objects.length > 0 || Boolean(state.draft?.remade));
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
      actions["export-coco"]();
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

function warn(event) {
  event.preventDefault();
}

async function openAddress(url, name) {
  try {
    const response = await api.send(url);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    await open(await response.blob(), name);
  } catch (error) {
    toast(`${name}: ${error.message}`);
  }
}

async function listExamples() {
  const { examples } = await api.examples();
  const sources = await Promise.all(examples.map(({ url }) => api.source(url)));
  $("examples").replaceChildren(...examples.map(({ name, url }, index) => {
    const button = Object.assign(document.createElement("button"), { title: name });
    button.append(Object.assign(document.createElement("img"), { src: sources[index], alt: name, loading: "lazy" }));
    button.addEventListener("click", () => openAddress(url, name));
    return button;
  }));
  $("examples-block").hidden = examples.length === 0;
}

// Clicks and masks

function click({ x, y }, positive) {
  state.session?.click(x, y, positive);
}

function onSession(session) {
  if (session !== state.session) return;
  const { answer } = session;
  if (session.waiting === 0) state.quiet = false;
  if (answer !== state.decoded && !state.quiet) {
    state.decoded = answer;
    state.mask = answer && answer.area > 0 ? decode(answer.mask) : null;
    if (answer) {
      $("status-time").textContent = duration(answer.milliseconds);
      $("status-model").textContent = answer.model_version;
      if (answer.honoured === false) message("The mask does not follow the last click: click once more nearby");
      else message(session.clicks.length ? "Correct with more clicks, or finish with Enter" : "Click the object to select it");
    }
  }
  refresh();
  if (state.finishing && session.waiting === 0) finish();
}

function finish() {
  const { session, mask } = state;
  state.finishing = Boolean(session?.waiting);
  if (!session || !mask || state.finishing) return;
  message(`${state.draft.name} finished`);
  keep();
  session.restart();
}

function keep() {
  const { session, mask, draft } = state;
  const { mask: rle, area, bbox_xywh: bbox } = session.answer;
  state.mask = null;
  objects.add({ ...draft, mask, rle, area, bbox, clicks: session.settled });
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
  state.mask = object.mask;
  state.quiet = true; // while its clicks are repeated, the mask that is known already stays
  message(`Editing ${object.name}`);
  state.session.restart(object.clicks);
  $("stage").focus({ preventScroll: true });
}

function refresh() {
  const { session, mask, draft } = state;
  if (!session) return;
  const shown = objects.objects.filter((object) => object.visible);
  view.setMasks([...shown, ...(mask ? [{ mask, color: draft.color }] : [])]);
  view.setClicks(session.clicks, session.waiting ? session.settled.length : session.clicks.length);
  const count = objects.objects.length;
  $("object-count").textContent = count;
  $("no-objects").hidden = count > 0 || Boolean(mask);
  $("draft").hidden = !mask;
  $("draft-name").textContent = `${draft.name}, in progress`;
  $("draft-swatch").style.borderColor = draft.color;
  $("undo").disabled = $("clear").disabled = session.clicks.length === 0;
  $("redo").disabled = session.undone.length === 0;
  $("finish").disabled = !mask || session.waiting > 0;
  $("export-coco").disabled = $("export-index").disabled = count === 0;
  $("export-mask").disabled = !mask && count === 0;
  $("status-clicks").textContent = `${session.clicks.length} ${session.clicks.length === 1 ? "click" : "clicks"}`;
  $("status-area").textContent = mask && session.answer ? `${session.answer.area.toLocaleString("en")} px` : "";
  // Only where it is needed: browsers keep no page in memory that listens to this.
  if (unsaved()) window.addEventListener("beforeunload", warn);
  else window.removeEventListener("beforeunload", warn);
  // A short wait needs no sign; a long one does.
  clearTimeout(state.waitTimer);
  if (session.waiting > 0) state.waitTimer = setTimeout(() => busy(`Computing ${session.waiting > 1 ? `(${session.waiting} waiting)` : ""}`), 400);
  else busy(null);
}

// What the page says

function busy(text) {
  $("busy").hidden = text === null;
  if (text !== null) $("busy-text").textContent = text;
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function message(text) {
  $("status-message").textContent = text;
}

function toast(text) {
  const box = Object.assign(document.createElement("div"), { className: "toast" });
  const close = Object.assign(document.createElement("button"), { textContent: "✕" });
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => box.remove());
  box.append(Object.assign(document.createElement("p"), { textContent: text }), close);
  $("toasts").append(box);
  setTimeout(() => box.remove(), 9000);
}

function setMode(adding) {
  state.adding = adding;
  $("mode-add").setAttribute("aria-checked", String(adding));
  $("mode-remove").setAttribute("aria-checked", String(!adding));
}

// Buttons, files, keys

const stem = () => state.image.name.replace(/\.[^.]*$/, "");
const saved = () => { objects.unsaved = Boolean(state.draft.remade); refresh(); };
const attempt = (action) => async () => { try { await action(); } catch (error) { toast(error.message); } };
const actions = {
  "open": () => $("file").click(),
  "choose": () => $("file").click(),
  "undo": () => state.session?.undo(),
  "redo": () => state.session?.redo(),
  "clear": () => state.session?.clear(),
  "finish": finish,
  "fit": () => view.fit(),
  "zoom-in": () => view.zoomAt(1.4, view.center()),
  "zoom-out": () => view.zoomAt(1 / 1.4, view.center()),
  "help": () => $("keys").showModal(),
  "mode-add": () => setMode(true),
  "mode-remove": () => setMode(false),
  "export-coco": () => {
    save(new Blob([JSON.stringify(cocoJson(state.image, objects.objects))], { type: "application/json" }), `${stem()}.json`);
    saved();
  },
  "export-mask": async () => save(await maskPng(state.image, state.mask ?? objects.objects.at(-1).mask), `${stem()}-mask.png`),
  "export-index": async () => {
    save(await indexPng(state.image, objects.objects), `${stem()}-index.png`);
    saved();
  },
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", attempt(action));

$("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) open(target.files[0], target.files[0].name);
  target.value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) open(file, file.name || "pasted.png");
});
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop-hint").hidden = false; });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop-hint").hidden = true; });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop-hint").hidden = true;
  const file = event.dataTransfer.files[0];
  if (file) open(file, file.name);
});

function option(id, apply) {
  $(id).addEventListener("input", () => { apply($(id)); view.redraw("masks", "clicks"); });
}
option("opacity", ({ value }) => { view.options.opacity = value / 100; });
option("outline", ({ checked }) => { view.options.outline = checked; });
option("dots", ({ checked }) => { view.options.dots = checked; });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const atCursor = (positive) => { if (view.cursor) click(view.cursor, positive); else view.moveCursor(0, 0); };
const KEYS = {
  Escape: actions.clear,
  Enter: finish,
  f: actions.fit,
  o: actions.open,
  1: () => setMode(true),
  2: () => setMode(false),
  a: () => atCursor(true),
  s: () => atCursor(false),
  "+": actions["zoom-in"],
  "=": actions["zoom-in"],
  "-": actions["zoom-out"],
  "?": actions.help,
};

function setHidden(hidden) {
  if (view.options.hidden === hidden) return;
  view.options.hidden = hidden;
  view.redraw("masks", "clicks");
}

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  const typing = target.matches("input:not([type=range], [type=checkbox], [type=color])");
  if (typing || document.querySelector("dialog[open]")) return;
  const lower = key.length === 1 ? key.toLowerCase() : key;
  if (event.ctrlKey || event.metaKey) {
    if (lower === "z") (event.shiftKey ? actions.redo : actions.undo)();
    else if (lower === "y") actions.redo();
    else return;
    event.preventDefault();
    return;
  }
  const onControl = target.closest("button, input, a");
  if (event.altKey || (onControl && ["Enter", " ", ...Object.keys(ARROWS)].includes(key))) return;
  if (key === " ") input.setSpace(true);
  else if (key === "h") setHidden(true);
  else if (ARROWS[key]) {
    const factor = event.shiftKey ? 8 : 1;
    view.moveCursor(ARROWS[key][0] * factor, ARROWS[key][1] * factor);
  } else if (KEYS[lower]) KEYS[lower]();
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", ({ key }) => {
  if (key === " ") input.setSpace(false);
  if (key === "h") setHidden(false);
});
// A page that the browser keeps in memory may come back, and its session with it.
window.addEventListener("pagehide", ({ persisted }) => { if (!persisted) state.session?.close(); });

api.health().then(({ network, refinement }) => { $("status-model").textContent = `${network}, ${refinement}`; },
  (error) => toast(error.message));
listExamples().catch((error) => toast(error.message));
