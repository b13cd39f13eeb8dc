// The choice of model, refinement and threshold among those that the server offers.

import * as api from "./api.js";
import { $ } from "./ui.js";

export class Models {
  /** onSet(settings) after a choice: those of model, refinement and mask_threshold that were chosen. */
  constructor(onSet) {
    this.all = [];
    this.settings = {};
    this.onSet = onSet;
    $("model").addEventListener("change", () => {
      this.#choose({ model: $("model").value, refinement: undefined, mask_threshold: undefined });
    });
    $("refinement").addEventListener("change", () => this.#choose({ refinement: $("refinement").value }));
    $("threshold").addEventListener("input", () => this.#choose({ mask_threshold: Number($("threshold").value) / 100 }));
  }

  /** Load the models; false if the server is too old to list them and lacks the newer tools. */
  async load() {
    const models = await api.models();
    this.all = models ?? [];
    $("model").replaceChildren(...this.all.map(({ name }) => new Option(name, name)));
    this.show();
    return models !== null;
  }

  get current() {
    return this.all.find(({ name }) => name === this.settings.model) ?? this.all.find((model) => model.default) ?? this.all[0];
  }

  /** Move the threshold by so much. */
  shift(by) {
    if (!this.current) return;
    const value = Number($("threshold").value) + 100 * by;
    this.#choose({ mask_threshold: Math.min(Math.max(value, 5), 95) / 100 });
  }

  /** Take over the settings of a session, for example after the server refused a choice. */
  adopt(settings) {
    this.settings = settings;
    this.show();
  }

  show() {
    const { current } = this;
    $("model-panel").hidden = !current;
    if (!current) return;
    $("model").value = current.name;
    $("model-row").hidden = this.all.length < 2;
    const names = current.refinements;
    const option = (name) => new Option(name.replaceAll("_", " "), name);
    $("refinement").replaceChildren(...names.map(option));
    // A checkpoint may recommend settings without a name: they are shown, but cannot be chosen.
    if (!names.includes(current.refinement)) {
      $("refinement").prepend(option(current.refinement));
      $("refinement").firstChild.disabled = true;
    }
    $("refinement").value = this.settings.refinement ?? current.refinement;
    $("refinement-row").hidden = names.length < 2;
    const threshold = this.settings.mask_threshold ?? current.mask_threshold;
    $("threshold").value = Math.round(100 * threshold);
    $("threshold-value").textContent = threshold.toFixed(2);
  }

  #choose(settings) {
    this.settings = { ...this.settings, ...settings };
    this.show();
    this.onSet(this.settings);
  }
}
