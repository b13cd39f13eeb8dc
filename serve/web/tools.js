// Binds the buttons, switches, keys and files of the page to their actions.

import * as api from "./api.js";
import { indexPng, maskPng, objectsZip, save } from "./exports.js";
import { bindKeys } from "./keys.js";
import { isJson, looksLikeMask, readMasks } from "./load_mask.js";
import { $, attempt, toast } from "./ui.js";
import * as works from "./works.js";

export function bindTools(page) {
  const { state, view, objects, folder, models, hover, inside, magnifier } = page;
  const stem = () => state.image.name.replace(/\.[^.]*$/, "");
  const saved = () => { objects.unsaved = Boolean(state.draft.remade) || state.album.size > 0; page.refresh(); };
  const setMode = (adding) => {
    state.adding = adding;
    $("mode-add").setAttribute("aria-checked", String(adding));
    $("mode-remove").setAttribute("aria-checked", String(!adding));
  };

  const actions = {
    "open": () => $("file").click(),
    "choose": () => $("file").click(),
    "load-mask": () => { if (state.image) $("mask-file").click(); },
    "previous": () => page.openFrom(folder.at - 1),
    "next": () => page.openFrom(folder.at + 1),
    "undo": () => state.session?.undo(),
    "redo": () => state.session?.redo(),
    "clear": page.clear,
    "finish": page.finish,
    "fit": () => view.fit(),
    "zoom-in": () => view.zoomAt(1.4, view.center()),
    "zoom-out": () => view.zoomAt(1 / 1.4, view.center()),
    "help": () => $("keys").showModal(),
    "mode-add": () => setMode(true),
    "mode-remove": () => setMode(false),
    "export-coco": page.exportCoco,
    "export-mask": async () => {
      save(await maskPng(state.image, (state.mask ?? objects.objects.at(-1)).read()), `${stem()}-mask.png`);
    },
    "export-index": async () => {
      save(await indexPng(state.image, objects.objects), `${stem()}-index.png`);
      saved();
    },
    "export-objects": async () => {
      save(await objectsZip(state.image, stem(), objects.objects), `${stem()}-objects.zip`);
      saved();
    },
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", attempt(action));

  const loadMask = attempt(async (file) => {
    if (!state.image) throw new Error("Open an image first, then load its mask.");
    await page.addMasks(await readMasks(file, state.image));
  });
  const take = attempt(async (file) => {
    const mask = isJson(file) || (state.image && (await looksLikeMask(file, state.image)));
    await (mask ? loadMask(file) : page.open(file, file.name));
  });
  const picked = (id, use) => $(id).addEventListener("change", ({ target }) => {
    if (target.files[0]) use(target.files[0]);
    target.value = "";
  });
  picked("file", (file) => page.open(file, file.name));
  picked("mask-file", loadMask);
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) page.open(file, file.name || "pasted.png");
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop-hint").hidden = false; });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop-hint").hidden = true; });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop-hint").hidden = true;
    const file = event.dataTransfer.files[0];
    if (file) take(file);
  });

  const option = (id, apply) => {
    $(id).addEventListener("input", () => { apply($(id)); view.redraw("masks", "clicks"); });
  };
  option("opacity", ({ value }) => { view.options.opacity = value / 100; });
  option("outline", ({ checked }) => { view.options.outline = checked; });
  option("dots", ({ checked }) => { view.options.dots = checked; });
  option("magnify", ({ checked }) => magnifier.toggle(checked));
  option("hover", ({ checked }) => { hover.allowed = checked; hover.stop(); });
  const insight = (name) => ({ checked }) => {
    inside[name] = checked;
    if (state.session) inside.update(state.session, state.draft.color);
  };
  option("show-steps", insight("steps"));
  option("show-probability", insight("probability"));
  $("class").addEventListener("change", () => {
    objects.label = $("class").value.trim();
    if (state.draft && !state.draft.remade) state.draft = { ...state.draft, name: objects.next().name };
    page.refresh();
  });
  $("class").addEventListener("keydown", ({ key }) => { if (key === "Enter") $("stage").focus({ preventScroll: true }); });

  const flip = (id) => () => { if (!$(id).closest("[hidden]")) $(id).click(); };
  const atCursor = (positive, hold) => {
    if (view.cursor) page.click(view.cursor, positive, hold);
    else view.moveCursor(0, 0);
  };
  bindKeys({
    actions: {
      Escape: actions.clear, Enter: page.finish, n: page.finish, f: actions.fit, o: actions.open, l: actions["load-mask"],
      1: actions["mode-add"], 2: actions["mode-remove"],
      a: ({ shiftKey }) => atCursor(true, shiftKey), s: ({ shiftKey }) => atCursor(false, shiftKey),
      "+": actions["zoom-in"], "=": actions["zoom-in"], "-": actions["zoom-out"], "?": actions.help,
      PageDown: actions.next, PageUp: actions.previous,
      m: flip("magnify"), b: flip("outline"), d: flip("dots"), v: flip("hover"), t: flip("show-steps"), p: flip("show-probability"),
      ",": () => models.shift(-0.05), ".": () => models.shift(0.05),
    },
    control: {
      z: ({ shiftKey }) => (shiftKey ? actions.redo : actions.undo)(),
      y: actions.redo,
    },
    onArrow: (dx, dy) => {
      view.moveCursor(dx, dy);
      magnifier.look(null);
      hover.at(view.cursor, state.adding);
    },
    onHold: (key, held) => {
      if (key === " ") page.input.setSpace(held);
      else if (key === "Shift") { if (!held) state.session?.release(); }
      else if (view.options.hidden !== held) {
        view.options.hidden = held;
        view.redraw("masks", "clicks");
      }
    },
  });
  // The browser may restore a page that it caches, so that page keeps its session. Any other may be a reload, after which
  // only a session without work is closed.
  window.addEventListener("pagehide", ({ persisted }) => { if (!persisted && page.isIdle()) state.session?.close(); });
  document.querySelector(".brand").addEventListener("click", () => works.setOpened(null));

  start(page).catch((error) => toast(error.message));
}

async function start({ state, objects, folder, models, openFrom, refresh, resume }) {
  const pictures = folder.load().then(async () => {
    $("examples").replaceChildren(...(await folder.pictures(openFrom)));
    $("examples-block").hidden = folder.entries.length === 0;
    $("examples-count").textContent = folder.entries.length;
    refresh();
  });
  const resumed = resume(pictures);
  resumed.catch(() => {}); // awaited below, after the more important errors
  const { network, refinement } = await api.health();
  if (!state.image) $("status-model").textContent = `${network}, ${refinement}`;
  const more = await models.load();
  for (const element of document.querySelectorAll(".needs-more")) element.hidden = !more;
  objects.show();
  await pictures;
  await resumed;
}
