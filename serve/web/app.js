// Connects the parts of the page: clicks go to the session, masks to the view, objects to the list. The rest is in
// opening.js, making.js, leaving.js and tools.js.

import { message, busy, toast, duration, $ } from "./ui.js";
import { Folder } from "./folder.js";
import { Hover } from "./hover.js";
import { Input } from "./input.js";
import { Inside } from "./inside.js";
import { Magnifier } from "./magnifier.js";
import { Models } from "./models.js";
import { bindLeaving } from "./leaving.js";
import { FINISH, bindMaking } from "./making.js";
import { ObjectList } from "./objects.js";
import { bindOpening } from "./opening.js";
import { decode } from "./rle.js";
import { bindTools } from "./tools.js";
import { View } from "./view.js";

const DOUBLE_MS = 400; // a second press within this time is a double click, and does not delete the first one's dot

const state = {
  image: null, session: null, adding: true, draft: null, decoded: null, loading: 0, finishing: false, quiet: false,
  mask: null,         // of the draft: {key, box, read()}
  shown: null,        // a step's mask, shown instead of the draft's
  album: new Map(),   // the folder's images with objects: {name, width, height, index, source, objects, id}
  workId: null,       // id of the session under which the browser remembers the open work
  version: null,      // {model, version} of the latest answer
};
const madeAt = new WeakMap(); // the time of each click
const view = new View($("stage"));
const objects = new ObjectList($("objects"), {
  onChange: refresh, onEdit: (object) => page.edit(object), onFind: (object) => page.findRest(object),
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
  onStep: (step) => { state.shown = step && page.drafted(step.mask); paint(); },
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

const page = { state, view, input, objects, folder, models, hover, inside, magnifier, click, refresh, refused, onSession };
for (const bind of [bindMaking, bindLeaving, bindOpening, bindTools]) bind(page);

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

function onSession(session) {
  if (session !== state.session) return;
  const { answer } = session;
  if (session.waiting === 0) state.quiet = false;
  if (answer !== state.decoded && !state.quiet) {
    const before = state.decoded;
    state.decoded = answer;
    if (answer) {
      state.mask = page.drafted(answer.pixels);
      if (answer.milliseconds !== undefined) $("status-time").textContent = duration(answer.milliseconds);
      const rolled = answered(answer.model_version);
      if (answer.num_clicks > (before?.num_clicks ?? 0)) hover.took(answer.milliseconds, answer.num_clicks);
      if (answer.honoured === false) message("The mask does not follow the last click: click again nearby");
      else if (rolled) message(`The model was updated to ${answer.model_version}; your clicks are kept`);
      else message(session.clicks.length || state.mask ? `Correct with more clicks, then ${FINISH}` : "Click the object to select it");
    } else state.mask = session.wanted.base?.mask ? page.drafted(decode(session.wanted.base.mask)) : null;
    hover.stop();
  }
  refresh();
  if (session.waiting === 0) inside.update(session, state.draft.color);
  if (state.finishing && session.waiting === 0) page.finish();
}

/** Show which version answered; true if another version of the same model answered before. */
function answered(version) {
  const { model } = state.session.opened.settings, { version: before } = state;
  state.version = { model, version };
  $("status-model").textContent = version;
  return before?.model === model && before.version !== version;
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
  page.remember();
  paint();
  const { clicks, waiting } = session;
  view.setClicks(clicks, session.numSettled);
  const count = objects.objects.length;
  $("object-count").textContent = count;
  $("no-objects").hidden = count > 0 || Boolean(mask);
  $("draft").hidden = !mask && !draft.parts;
  $("draft-name").textContent = draft.parts ? "More of the same kind" : `${draft.name}, in progress`;
  $("draft-swatch").style.borderColor = draft.color;
  $("undo").disabled = !session.canUndo;
  $("clear").disabled = clicks.length === 0 && !draft.parts;
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
  // Only while it is needed, because browsers do not cache pages with this listener.
  if (page.unsaved()) window.addEventListener("beforeunload", warn);
  else window.removeEventListener("beforeunload", warn);
  // Show the spinner only after a delay.
  clearTimeout(state.waitTimer);
  if (waiting > 0 && !session.held) state.waitTimer = setTimeout(() => busy(`Computing ${waiting > 1 ? `(${waiting} waiting)` : ""}`), 400);
  else busy(null);
}

function warn(event) {
  event.preventDefault();
}
