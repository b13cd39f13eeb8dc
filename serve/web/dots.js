// Draws clicks and the keyboard's cursor over the image, in CSS pixels.

const ADD = "#2fbf71", REMOVE = "#f0545b";
export const DOT_RADIUS = 7;

/** One click. settled: the server has answered it, otherwise it is pale; aimed: a press would delete it. */
export function drawDot(context, { x, y }, positive, { settled = true, aimed = false } = {}) {
  context.globalAlpha = settled ? 1 : 0.6;
  context.beginPath();
  context.arc(x, y, DOT_RADIUS + (aimed ? 2 : 0), 0, 2 * Math.PI);
  context.fillStyle = positive ? ADD : REMOVE;
  context.shadowColor = "rgb(0 0 0 / .6)";
  context.shadowBlur = 4;
  context.fill();
  context.shadowBlur = 0;
  context.strokeStyle = "#fff";
  context.lineWidth = aimed ? 2.2 : 1.6;
  context.stroke();
  context.beginPath();
  if (aimed) {
    for (const sign of [1, -1]) {
      context.moveTo(x - 3, y - 3 * sign);
      context.lineTo(x + 3, y + 3 * sign);
    }
  } else {
    context.moveTo(x - 3.2, y);
    context.lineTo(x + 3.2, y);
    if (positive) {
      context.moveTo(x, y - 3.2);
      context.lineTo(x, y + 3.2);
    }
  }
  context.stroke();
  context.globalAlpha = 1;
}

/** A cross with an open middle. */
export function drawCross(context, { x, y }, inner = 5, outer = 14) {
  for (const [color, width] of [["rgb(0 0 0 / .7)", 3.5], ["#fff", 1.5]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + inner * dx, y + inner * dy);
      context.lineTo(x + outer * dx, y + outer * dy);
    }
    context.stroke();
  }
}
