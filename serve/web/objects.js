// The list of finished objects and its display. An object is {name, color, visible, key, box, rle, clicks, base, number},
// with the `number` that the server gave it.

import { decode } from "./rle.js";

const COLORS = ["#5b8cff", "#ff9f43", "#2ec4b6", "#e667c8", "#f6d743", "#9b7bff", "#ff6b6b", "#7bd14b", "#4cc9f0", "#c9a27e"];
const ICONS = {
  find: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.300 15.300L20 20M10.500 7.500v6M7.500 10.500h6",
  edit: "M4 20l1-4L16 5l3 3L8 19l-4 1z",
  shown: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zm10 3a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  hidden: "M3 3l18 18M10 5.2C18 4 22 12 22 12s-1 2-3 4M6 7c-3 2-4 5-4 5s4 7 10 7c1.500 0 3-.5 4-1",
  remove: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
};

export const colorOf = (place) => COLORS[place % COLORS.length];

/** Whether a name was given by the list. */
export const isNumbered = (name) => /^Object \d+$/.test(name);

export class ObjectList {
  /**
   * onChange() after the list changed; onEdit(object) to edit one, onDrop(object) after one was deleted, onFind(object) to
   * find more objects like it, if canFind().
   */
  constructor(element, { onChange, onEdit, onDrop, onFind, canFind }) {
    Object.assign(this, { element, onChange, onEdit, onDrop, onFind, canFind });
    this.label = "";      // class of new objects; if empty, they are numbered
    this.unsaved = false; // the list has changes that were not exported
    this.reset();
  }

  reset(objects = []) {
    this.objects = objects;
    const numbers = objects.filter(({ name }) => isNumbered(name)).map(({ name }) => Number(name.slice(7)));
    this.numMade = Math.max(objects.length, ...numbers);
    this.show();
  }

  /** A name and a color for a new object. */
  next() {
    const used = new Set(this.objects.map((object) => object.color));
    const free = COLORS.find((color) => !used.has(color)) ?? COLORS[this.numMade % COLORS.length];
    return { name: this.label || `Object ${this.numMade + 1}`, color: free };
  }

  add(object) {
    if (!object.remade) this.numMade++;
    const at = Math.min(object.at ?? this.objects.length, this.objects.length);
    const { rle } = object;
    const added = { ...object, key: rle, read: () => decode(rle), visible: true };
    this.objects.splice(at, 0, added);
    this.unsaved = true;
    this.changed();
    return added;
  }

  take(object) {
    const at = this.objects.indexOf(object);
    this.objects.splice(at, 1);
    this.unsaved = true;
    this.changed();
    return at;
  }

  changed() {
    this.show();
    this.onChange();
  }

  show() {
    this.element.replaceChildren(...this.objects.map((object) => this.#row(object)));
    const names = new Set(this.objects.map(({ name }) => name));
    document.getElementById("classes").replaceChildren(...[...names].map((name) => new Option(name, name)));
  }

  #row(object) {
    const row = document.createElement("li");
    row.classList.toggle("off", !object.visible);
    const color = Object.assign(document.createElement("input"), { type: "color", className: "swatch", value: object.color });
    color.setAttribute("aria-label", `Color of ${object.name}`);
    color.addEventListener("change", () => { object.color = color.value; this.changed(); });
    const name = Object.assign(document.createElement("input"), { className: "name", value: object.name, maxLength: 80 });
    name.setAttribute("list", "classes");
    name.setAttribute("aria-label", "Name, used as category in the export");
    name.addEventListener("change", () => { object.name = name.value.trim() || object.name; this.unsaved = true; this.changed(); });
    name.addEventListener("keydown", (event) => { if (event.key === "Enter") name.blur(); });
    row.append(
      color,
      name,
      button(object.visible ? "shown" : "hidden", `${object.visible ? "Hide" : "Show"} ${object.name}`, () => {
        object.visible = !object.visible;
        this.changed();
      }),
      button("edit", `Edit ${object.name}`, () => this.onEdit(object)),
      button("remove", `Delete ${object.name}`, () => {
        this.take(object);
        this.onDrop(object);
      }),
    );
    if (this.canFind()) row.children[2].before(button("find", `Find more objects like ${object.name}`, () => this.onFind(object)));
    return row;
  }
}

function button(icon, label, onClick) {
  const element = Object.assign(document.createElement("button"), { className: "icon", title: label });
  element.setAttribute("aria-label", label);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[icon]);
  svg.append(path);
  element.append(svg);
  element.addEventListener("click", onClick);
  return element;
}
