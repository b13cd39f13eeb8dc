// Interprets pointer events on the stage as clicks, zooming and panning. It does not know sessions.

const TAP_SLOP = 6; // beyond this distance, a finger moves the image
const LONG_PRESS_MS = 500;

export class Input {
  /**
   * onClick(pixel, positive, {hold}), onHover(place or null), onTouch(place or null) while one finger is down;
   * onDot(click): a press on the dot of a click; mode() returns whether a plain click adds.
   */
  constructor(view, { onClick, onDot, onHover, onTouch, mode }) {
    Object.assign(this, { view, onClick, onDot, onHover, onTouch, mode });
    this.pointers = new Map();
    this.space = false;
    this.press = null;
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
    const pointer = { place, start: place, pan, touch, done: false };
    this.pointers.set(event.pointerId, pointer);
    this.#endPress();
    if (this.pointers.size > 1) for (const each of this.pointers.values()) each.pan = true;
    if (pan) {
      this.view.stage.classList.add("panning");
      event.preventDefault();
    } else if (touch && this.pointers.size === 1) {
      this.onTouch(place);
      this.press = setTimeout(() => {
        pointer.done = true;
        navigator.vibrate?.(15);
        this.#click(place, !this.mode(), {});
      }, LONG_PRESS_MS);
    } else if (!touch && (event.button === 0 || event.button === 2)) {
      const remove = event.button === 2 || event.altKey;
      this.#click(place, remove ? false : this.mode(), { hold: event.shiftKey, dots: event.button === 0 && !event.altKey });
    }
  }

  #move(event) {
    const place = this.#place(event);
    const pointer = this.pointers.get(event.pointerId);
    this.onHover(event.pointerType === "touch" ? null : place);
    if (!pointer) return;
    const before = pointer.place;
    if (pointer.touch && Math.hypot(place.x - pointer.start.x, place.y - pointer.start.y) > TAP_SLOP) pointer.pan = true;
    pointer.place = place;
    if (!pointer.pan) return;
    this.#endPress();
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
    this.#endPress();
    const tapped = pointer?.touch && !pointer.pan && !pointer.done && event.type === "pointerup";
    if (tapped) this.#click(pointer.place, this.mode(), { dots: true });
  }

  #endPress() {
    clearTimeout(this.press);
    this.onTouch(null);
  }

  #click(place, positive, { hold = false, dots = false }) {
    const dot = dots ? this.view.clickAt(place) : null;
    const pixel = this.view.pixelAt(place);
    if (dot) this.onDot(dot);
    else if (pixel) this.onClick(pixel, positive, { hold });
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.view.zoomAt(Math.exp(-event.deltaY * lines * 0.0016), this.#place(event));
    this.onHover(this.#place(event));
  }
}
