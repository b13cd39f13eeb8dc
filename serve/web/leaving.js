// Exports the objects, and asks before unsaved objects are discarded.

import { cocoJson, save } from "./exports.js";
import { $ } from "./ui.js";
import * as works from "./works.js";

export function bindLeaving(page) {
  const { state, objects } = page;

  /** The images to export: the open one and those of the folder that have objects. */
  function images() {
    const all = new Map(state.album), { image } = state;
    if (image?.index >= 0) all.set(image.index, { ...image, objects: objects.objects });
    const inFolder = !image || image.index >= 0;
    const list = inFolder ? [...all.keys()].sort((a, b) => a - b).map((at) => all.get(at)) : [{ ...image, objects: objects.objects }];
    return list.length > 1 ? list.filter((image) => image.objects.length > 0) : list;
  }

  /** Whether a finished object, or one that is being edited, has not been exported. */
  function unsaved() {
    return objects.unsaved && (objects.objects.length > 0 || state.album.size > 0 || Boolean(state.draft?.remade));
  }

  /** Ask before another image replaces objects that were not exported; true: continue. */
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

  /** Return the edited object to the list, as it is now, or as it was before if its mask is still being computed. */
  function putBack() {
    const { draft, session } = state;
    if (!draft?.remade) return;
    if (state.mask && session.waiting === 0) page.keep();
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
    page.refresh();
  }

  Object.assign(page, { unsaved, mayLeave, exportCoco });
}
