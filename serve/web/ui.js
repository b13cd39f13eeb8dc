// The page's messages: the status line, the busy indicator, and toasts for errors.

export const $ = (id) => document.getElementById(id);

export function busy(text) {
  $("busy").hidden = text === null;
  if (text !== null) $("busy-text").textContent = text;
}

export function message(text) {
  $("status-message").textContent = text;
}

/** kind: "note" if it is not an error. */
export function toast(text, kind = "") {
  const box = Object.assign(document.createElement("div"), { className: `toast ${kind}`.trim() });
  const close = Object.assign(document.createElement("button"), { textContent: "✕" });
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => box.remove());
  box.append(Object.assign(document.createElement("p"), { textContent: text }), close);
  $("toasts").append(box);
  setTimeout(() => box.remove(), 9000);
}

export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** Wrap an action so that its failure is shown, whether it is immediate or asynchronous. */
export const attempt = (action) => async (...given) => {
  try {
    await action(...given);
  } catch (error) {
    toast(error.message);
  }
};
