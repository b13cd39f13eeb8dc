// Pointer and keys on the stage. Says what was meant: click, zoom, pan; knows nothing of sessions.

const TAP_SLOP = 6; // a finger that moved farther meant to move the image

export class Input {
  /** onClick(pixel, positive), onHover(pixel or null); mode() tells whether a plain click adds. */
  constructor(view, { onClick, onHover, mode }) {
    Object.assign(this, { view, onClick, onHover, mode });
    this.pointers = new Map();
    this.space = false;
    const stage = view.stage;
    const isStage = (event) => event.target === stage;
    stage.addEventListener("pointerdown", (event) => isStage(event) && this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#up(event));
    stage.addEventListener("pointerleave", () => this.onHover(null));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("auxclick", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    window.addEventListener("blur", () => this.setSpace(false));
  }

  setSpace(held) {
    this.space = held;
    this.view.stage.classList.toggle("pan", held);
  }

  #place(event) {
    const box = this.view.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (!this.view.image) return;
    this.view.stage.focus({ preventScroll: true });
    this.view.stage.setPointerCapture(event.pointerId);
    const place = this.#place(event);
    const pan = event.button === 1 || (event.button === 0 && this.space);
    const touch = event.pointerType === "touch";
    this.pointers.set(event.pointerId, { place, start: place, pan, touch });
    if (this.pointers.size > 1) for (const pointer of this.pointers.values()) pointer.pan = true;
    if (pan) {
      this.view.stage.classList.add("panning");
      event.preventDefault();
    } else if (!touch && (event.button === 0 || event.button === 2)) {
      const remove = event.button === 2 || event.altKey;
      this.#click(place, remove ? false : this.mode());
    }
  }

  #move(event) {
    const place = this.#place(event);
    this.onHover(this.view.pixelAt(place));
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return;
    const before = pointer.place;
    if (pointer.touch && Math.hypot(place.x - pointer.start.x, place.y - pointer.start.y) > TAP_SLOP) pointer.pan = true;
    pointer.place = place;
    if (!pointer.pan) return;
    const other = [...this.pointers.values()].find((each) => each !== pointer);
    if (!other) {
      this.view.panBy(place.x - before.x, place.y - before.y);
      return;
    }
    const distance = (from) => Math.max(Math.hypot(from.x - other.place.x, from.y - other.place.y), 1);
    const middle = { x: (place.x + other.place.x) / 2, y: (place.y + other.place.y) / 2 };
    this.view.zoomAt(distance(place) / distance(before), middle);
    this.view.panBy((place.x - before.x) / 2, (place.y - before.y) / 2);
  }

  #up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    this.view.stage.classList.remove("panning");
    if (pointer?.touch && !pointer.pan && event.type === "pointerup") this.#click(pointer.place, this.mode());
  }

  #click(place, positive) {
    const pixel = this.view.pixelAt(place);
    if (pixel) this.onClick(pixel, positive);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.view.zoomAt(Math.exp(-event.deltaY * lines * 0.0016), this.#place(event));
  }
}
