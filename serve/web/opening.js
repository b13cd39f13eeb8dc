// Opens images, and remembers the work on them.

import * as api from "./api.js";
import { colorOf } from "./objects.js";
import { keepAlive, recall, revive } from "./resume.js";
import { Session } from "./session.js";
import { $, attempt, busy, message, toast } from "./ui.js";
import * as works from "./works.js";

const ACCEPTED = ["image/jpeg", "image/png", "image/webp"];

export function bindOpening(page) {
  const { state, view, objects, folder, models, hover } = page;

  /** Open a file; index: its place in the folder, whose objects are kept until they are exported, or -1. */
  async function open(blob, name, index = -1, known = state.album.get(index)) {
    const within = index >= 0 && (folder.at >= 0 || !state.image || !page.unsaved());
    if (document.querySelector("dialog[open]") || !(within || (await page.mayLeave()))) return;
    const turn = ++state.loading;
    busy("Preparing the image");
    let session = null, fresh = true;
    try {
      if (blob.type && !ACCEPTED.includes(blob.type)) throw new Error("This is not a JPEG, PNG or WebP image.");
      // Apply the EXIF orientation, as the server does.
      const decoding = createImageBitmap(blob, { imageOrientation: "from-image" });
      decoding.catch(() => {}); // if the server refuses the image too, its message is better
      session = new Session(blob, { onChange: page.onSession, onError: page.refused, settings: models.settings });
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
    state.version = { model: session.opened.settings.model, version: session.info.model_version };
    models.adopt(session.wanted.settings);
    view.show(image);
    objects.reset(known?.objects);
    objects.unsaved ||= Boolean(known?.unsaved);
    state.draft = { ...objects.next(), ...draft, parts: Boolean(draft?.parts && session.wanted.base?.exemplar) };
    hover.attach(session);
    clearInterval(state.keeping);
    state.keeping = keepAlive(() => [state.session.id, ...[...state.album.values()].map(({ id }) => id)].filter(Boolean), Math.min(300, session.info.expires_in_s / 3) * 1000);
    folder.opened(index);
    $("welcome").hidden = true;
    document.body.classList.remove("empty");
    $("stage").classList.add("loaded");
    $("file-name").textContent = name;
    $("file-name").title = name;
    $("status-model").textContent = state.version.version;
    $("status-size").textContent = `${width} × ${height}`;
    message("Click the object to select it");
    $("stage").focus({ preventScroll: true });
    page.onSession(session);
  }

  function leave(session, forGood) {
    if (!forGood) {
      session.leave();
      return;
    }
    works.forget(session.id);
    session.close();
  }

  // An image of the folder keeps its objects, and its session on the server; other work is discarded.
  function leaveOpen(within) {
    const { session, image, album } = state;
    if (!within) {
      for (const { id } of album.values()) {
        if (id === session?.id) continue;
        works.forget(id);
        api.closeSession(id).catch(() => {}); // if this fails, the session expires
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

  /** Store the work on the open image in the browser; called after every change. */
  function remember() {
    const { session, image, draft, mask } = state, { source, name } = image, { id } = session;
    if (!id) return; // the session is being rebuilt
    if (state.workId && state.workId !== id) works.forget(state.workId);
    state.workId = id;
    works.setOpened({ id, source });
    const nothing = !objects.objects.length && !session.clicks.length && !mask;
    if (nothing && source) { works.forget(id); return; }
    const look = objects.objects.map(({ number, name: called, color, visible }) => ({ number, name: called, color, visible }));
    const { name: label, color, at, parts } = draft;
    works.save({ id, source, name, unsaved: objects.unsaved, clicks: session.clicks, draft: { name: label, color, at, parts }, look });
  }

  /** Whether the session can be closed without losing anything. */
  const isIdle = () => Boolean(state.image?.source) && !works.get(state.session?.id);

  let recalled;
  const recalling = new Promise((resolve) => { recalled = resolve; });

  /** Restore the work from before a reload, or offer the work that an earlier visit left. */
  async function resume(listed) {
    try {
      await listed;
      const { found, lost } = await recall(colorOf);
      if (lost.length) toast(`The server no longer has the work on ${lost.join(", ")}: it was unused for too long, or the server was restarted. A new session starts.`, "note");
      const left = [];
      for (const { work: { id, source, name, unsaved: open }, info: { width, height }, objects: list } of found) {
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
      state.album.clear(); // the browser still remembers it, and offers it at the next visit
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

  /** Open another image of the folder, after finishing the current object. */
  async function openFrom(index) {
    if (!folder.has(index)) return;
    busy("Opening the image");
    const { session } = state;
    try {
      await recalling;
      const { name, blob } = await folder.fetch(index);
      if (session && !(await page.readied())) return; // another image was opened meanwhile
      if (!(await page.idle(session))) return;
      await open(blob, name, index);
    } catch (error) {
      busy(null);
      toast(`${folder.entries[index].name}: ${error.message}`);
    }
  }

  Object.assign(page, { open, openFrom, remember, isIdle, resume });
}
