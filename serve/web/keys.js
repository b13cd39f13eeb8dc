// Binds keys to actions, except while the user types text or a dialog is open.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PAN_KEY = " ";

/**
 * actions: {key: action(event)}, letters in lower case; control: the same for keys with Ctrl or Cmd; onArrow(dx, dy);
 * onHold(key, held) for " ", "h" and "Shift", which act while they are held.
 */
export function bindKeys({ actions, control, onArrow, onHold }) {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const typing = target.matches("select, input:not([type=range], [type=checkbox], [type=color])");
    if (typing || document.querySelector("dialog[open]")) return;
    const lower = key.length === 1 ? key.toLowerCase() : key;
    if (event.ctrlKey || event.metaKey) {
      if (!control[lower]) return;
      control[lower](event);
      event.preventDefault();
      return;
    }
    const onControl = target.closest("button, input, a, summary");
    if (event.altKey || (onControl && ["Enter", PAN_KEY, ...Object.keys(ARROWS)].includes(key))) return;
    if (key === PAN_KEY || lower === "h") onHold(lower, true);
    else if (ARROWS[key]) {
      const factor = event.shiftKey ? 8 : 1;
      onArrow(ARROWS[key][0] * factor, ARROWS[key][1] * factor);
    } else if (actions[lower]) actions[lower](event);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keyup", ({ key }) => {
    const lower = key.length === 1 ? key.toLowerCase() : key;
    if ([PAN_KEY, "h", "Shift"].includes(lower)) onHold(lower, false);
  });
  window.addEventListener("blur", () => { for (const key of [PAN_KEY, "h", "Shift"]) onHold(key, false); });
}
