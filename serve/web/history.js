// Undo and redo of lists of clicks. Each entry is a whole list, so that clearing or deleting clicks can be undone too.

export class History {
  constructor(clicks = []) {
    this.clicks = clicks;
    this.past = [];
    this.future = [];
  }

  /** The history of clicks that were made one by one. */
  static of(clicks) {
    const history = new History(clicks);
    history.past = clicks.map((_, place) => clicks.slice(0, place));
    return history;
  }

  change(clicks) {
    this.past.push(this.clicks);
    this.clicks = clicks;
    this.future = [];
  }

  /** Undo and redo return whether there was anything to do. */
  undo() {
    return this.#move(this.past, this.future);
  }

  redo() {
    return this.#move(this.future, this.past);
  }

  /** Remove a click that was refused, as if it had never been made. */
  drop(click) {
    const without = (clicks) => (clicks.includes(click) ? clicks.filter((other) => other !== click) : clicks);
    this.clicks = without(this.clicks);
    const differ = (lists) => lists.filter((clicks, i) => !same(clicks, i + 1 < lists.length ? lists[i + 1] : this.clicks));
    this.past = differ(this.past.map(without));
    this.future = differ(this.future.map(without));
  }

  #move(from, to) {
    if (from.length === 0) return false;
    to.push(this.clicks);
    this.clicks = from.pop();
    return true;
  }
}

function same(a, b) {
  return a.length === b.length && a.every((click, i) => click === b[i]);
}
