// The strip of time of the live page: it moves on with the time unless the page is paused.

import { Strip } from './strip.js';

// The time that is shown for short windows and for long ones, in slots.
const SHORT = 600, LONG = 6000;
const NARROWEST = 2;

export class LiveStrip extends Strip {
  // `clicked` is called at a click; `range` and `changed` are those of Strip.
  constructor(canvas, model, colours, changed, clicked) {
    super(canvas, model, colours, changed);
    this.clicked = clicked;
    this.advance({ end: 0, long: false, window: null });
  }

  // Shows the time up to the slot `end`, not included; `window` is the range of slots that the graph
  // is of, if that is not all.
  advance({ end, long, window }) {
    const { slotNs } = this.model;
    this.window = window?.map(slot => slot * slotNs) ?? null;
    if (this.dragged !== null) return;
    const span = long ? LONG : SHORT;
    this.perColumn = Math.ceil(span / Math.max(this.canvas.clientWidth / NARROWEST, 1));
    this.columns = Math.ceil(span / this.perColumn);
    // Columns stay whole while time goes on.
    this.first = (Math.ceil(end / this.perColumn) - this.columns) * this.perColumn;
    this.origin = this.first * slotNs;
    this.length = this.columns * this.perColumn * slotNs;
    if (!this.range) this.cursor = this.bounded(Math.max(this.cursor, this.origin));
  }

  get slots() {
    return this.columns;
  }

  get marked() {
    return this.range ?? this.window;
  }

  keyOf(lanes) {
    const { model } = this;
    return [lanes.count, this.columns, this.first, model.generation, model.seq].join();
  }

  counted({ count, laneOf }) {
    const { model: { rows, stacks, facts }, columns, perColumn, first } = this;
    const lanes = new Map(facts.cpus.map((cpu, index) => [cpu, laneOf[index]]));
    const groups = this.colours.groups.length;
    const counts = new Float64Array(count * columns * groups);
    for (let row = rows.first(Math.max(first, 0)); row < rows.end; row++) {
      const column = Math.floor((rows.slot[row] - first) / perColumn);
      if (column >= columns) break;
      const at = ((lanes.get(rows.cpu[row]) ?? 0) * columns + column) * groups;
      counts[at + stacks.group[rows.stack[row]]] += rows.samples[row];
    }
    return counts;
  }
}
