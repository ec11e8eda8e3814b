// Draws boxes on a canvas. Knows pixels; which boxes there are and what they mean comes from
// graph.js and chart.js.

import { CLASS, INLINED, RELIABLE } from './model.js';
import { clipped } from './text.js';

export const ROW = 18;
const PADDING = 4;
// Boxes narrower than this many pixels are put together.
const NARROWEST = 0.5;
const FONT = '12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

// Fits the pixels of a canvas to its size on the screen, and returns the context and that size.
export function sized(canvas) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  const context = canvas.getContext('2d', { alpha: false });
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

export class Painter {
  constructor(canvas, model, colours) {
    Object.assign(this, { canvas, model, colours });
    this.character = 0;
  }

  // Draws a scene: `boxes` of `tree` between `view`, from `top` pixels below the highest row of
  // `rows`; with the root on top or at the bottom, `chosen` and `hovered` outlined, and what does
  // not match `search` faint; `fill` gives the colour of a node, if that is not by its kind. Returns
  // how many frames were too narrow to be told apart.
  draw(scene) {
    const { context, width, height } = sized(this.canvas);
    context.fillStyle = this.colours.paper;
    context.fillRect(0, 0, width, height);
    context.font = FONT;
    context.textBaseline = 'middle';
    this.character ||= context.measureText('M'.repeat(100)).width / 100;
    Object.assign(this, { context, width, height, scene, pixel: 1 / (devicePixelRatio || 1) });
    const { boxes, view: [from, to] } = scene;
    const { node, x0, x1, depth, end, count } = boxes;
    const scale = width / (to - from);
    // The rows that are in sight.
    const rows = [this.rowAt(0), this.rowAt(height)];
    const deepest = Math.max(...rows);
    let small = 0;
    this.runs = [];
    for (let box = 0; box < count;) {
      const left = (x0[box] - from) * scale, right = (x1[box] - from) * scale;
      if (right <= 0 || left >= width || depth[box] > deepest) {
        box = end[box];
      } else if (node[box] < 0 || right - left < NARROWEST) {
        small += node[box] < 0 ? -node[box] : end[box] - box;
        this.narrow(box, left, right);
        box = end[box];
      } else {
        this.box(box, left, right);
        box++;
      }
    }
    for (const run of this.runs) if (run) this.run(run);
    this.outline(scene.hovered, 1.5, this.colours.ink, scale);
    this.outline(scene.chosen, 2.5, this.colours.chosen, scale);
    return small;
  }

  // Where a row is drawn, in pixels from the top of the canvas; and which row is there.
  top(depth) {
    const { icicle, rows, top } = this.scene;
    return (icicle ? depth : rows - 1 - depth) * ROW - top;
  }

  rowAt(y) {
    const { icicle, rows, top } = this.scene;
    const row = Math.floor((y + top) / ROW);
    return icicle ? row : rows - 1 - row;
  }

  // The edge between two pixels of the screen that is nearest.
  snapped(x) {
    return Math.round(x / this.pixel) * this.pixel;
  }

  box(box, left, right) {
    const { boxes, tree, hits, view } = this.scene;
    const y = this.top(boxes.depth[box]);
    if (y < -ROW || y > this.height) return;
    const { labels } = this.model;
    const label = tree.label[boxes.node[box]];
    // On whole pixels: edges are sharp then, and drawn several times as fast.
    const x = Math.max(this.snapped(left), 0), end = Math.min(this.snapped(right), this.width);
    const room = Math.max(end - x, this.pixel);
    const flags = labels.flags[label];
    // So are those that the view is a part of: they lead to it.
    const leads = boxes.x1[box] - boxes.x0[box] > (view[1] - view[0]) * (1 + 1e-9) && left <= 0 && right >= this.width;
    const faint = hits && !hits[label] ? 0.22 : leads ? 0.5 : 1;
    const { context, colours } = this;
    const filled = room > 3 ? room - 1 : room;
    context.globalAlpha = faint * (flags & RELIABLE ? flags & INLINED ? 0.55 : 1 : 0.35);
    const { fill } = this.scene;
    context.fillStyle = fill ? fill(boxes.node[box]) : colours.fill(labels.group[label], labels.shade[label]);
    context.fillRect(x, y, filled, ROW - 1);
    if (!(flags & RELIABLE) && filled > 6) {
      context.globalAlpha = faint;
      context.strokeStyle = colours.quiet;
      context.lineWidth = 1;
      context.setLineDash([3, 2]);
      context.strokeRect(x + 0.5, y + 0.5, filled - 1, ROW - 2);
      context.setLineDash([]);
    }
    if (hits && hits[label] && filled > 2) {
      context.globalAlpha = 1;
      context.strokeStyle = colours.found;
      context.lineWidth = 1.5;
      context.strokeRect(x + 0.75, y + 0.75, filled - 1.5, ROW - 2.5);
    }
    if (room < 3 * this.character) return;
    const text = clipped(this.model.nameOf(label), (room - 2 * PADDING) / this.character);
    if (text === '') return;
    // On what is filled in full the text is dark in both themes, as in svg.css.
    const solid = flags & RELIABLE && !(flags & INLINED) && faint === 1;
    const marker = labels.class[label] === CLASS.MARKER;
    context.globalAlpha = hits && !hits[label] ? 0.6 : 1;
    context.fillStyle = !solid ? colours.ink : marker ? colours['marker-ink'] : '#16181d';
    context.fillText(text, x + PADDING, y + ROW / 2);
  }

  // Puts a narrow box together with those beside it.
  narrow(box, left, right) {
    const { boxes, before, tree } = this.scene;
    const depth = boxes.depth[box], width = right - left;
    const group = boxes.node[box] < 0 ? boxes.group[box] : this.model.labels.group[tree.label[boxes.node[box]]];
    const hit = before ? before[boxes.end[box]] > before[box] : false;
    const run = this.runs[depth];
    if (run && left <= run.right + NARROWEST && run.hit === hit) {
      run.right = right;
      if (width > run.widest) Object.assign(run, { widest: width, group });
      return;
    }
    if (run) this.run(run);
    this.runs[depth] = { depth, left, right, hit, group, widest: width };
  }

  // A run has the pale colour of its widest frame, over grey.
  run({ depth, left, right, hit, group }) {
    const y = this.top(depth);
    if (y < -ROW || y > this.height) return;
    const { context, colours, scene: { hits } } = this;
    const width = Math.max(right - left, NARROWEST);
    context.globalAlpha = hits && !hit ? 0.4 : 1;
    context.fillStyle = hit ? colours.found : colours.small;
    context.fillRect(left, y, width, ROW - 1);
    if (hits || this.scene.fill) return;
    context.globalAlpha = 0.6;
    context.fillStyle = colours.fill(group, 0);
    context.fillRect(left, y, width, ROW - 1);
  }

  outline(box, thickness, colour, scale) {
    const { boxes, view } = this.scene;
    if (box < 0 || box >= boxes.count) return;
    const left = Math.max((boxes.x0[box] - view[0]) * scale, 0);
    const right = Math.min((boxes.x1[box] - view[0]) * scale, this.width);
    if (right <= left) return;
    const { context } = this;
    context.globalAlpha = 1;
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    const inset = thickness / 2;
    const width = Math.max(right - left - thickness, 1);
    context.strokeRect(left + inset, this.top(boxes.depth[box]) + inset, width, ROW - 1 - thickness);
  }
}
