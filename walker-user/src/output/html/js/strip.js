// The strip of time: how many samples there were in each slot of time, by the kind of stack they
// were taken on, for all CPUs together or in a lane each; and the range that is selected.

import { sized } from './painter.js';
import { duration } from './text.js';

const SLOT_WIDTH = 3;
const ALL_HEIGHT = 64, LANE_HEIGHT = 16, LEAST_LANE = 4, MOST_LANES_HEIGHT = 240;
const AXIS = 16;

export class Strip {
  // `changed` is called with a new range [from, to) in nanoseconds, or null for all of it.
  constructor(canvas, model, colours, changed) {
    Object.assign(this, { canvas, model, colours, changed });
    this.lanes = false;
    this.thread = -1;
    this.range = null;
    // The time that is shown, in nanoseconds.
    this.origin = 0;
    this.length = model.facts.length_ns;
    // The slot in which a drag began.
    this.dragged = null;
    // Where a range that is made by keys begins, and its other end.
    this.anchor = null;
    this.cursor = 0;
    this.listen();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener('pointerdown', event => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.dragged = this.slotAt(event.offsetX);
    });
    canvas.addEventListener('pointermove', event => {
      if (this.dragged !== null) this.show(this.dragged, this.slotAt(event.offsetX));
    });
    canvas.addEventListener('pointerup', event => {
      if (this.dragged === null) return;
      const start = this.dragged, end = this.slotAt(event.offsetX);
      this.dragged = null;
      if (end === start) this.clicked();
      else this.show(start, end);
    });
    canvas.addEventListener('pointercancel', () => { this.dragged = null; });
  }

  // A click, rather than a drag, takes the selection away.
  clicked() {
    this.choose(null);
  }

  get slots() {
    return Math.max(1, Math.floor(this.canvas.clientWidth / SLOT_WIDTH));
  }

  slotAt(x) {
    const slot = Math.floor(x / this.canvas.clientWidth * this.slots);
    return Math.min(Math.max(slot, 0), this.slots - 1);
  }

  // When a slot begins, in whole nanoseconds.
  timeOf(slot) {
    return Math.round(this.origin + slot / this.slots * this.length);
  }

  show(a, b) {
    this.choose([this.timeOf(Math.min(a, b)), this.timeOf(Math.max(a, b) + 1)]);
  }

  choose(range) {
    if (range === null) this.anchor = null;
    if (String(range) === String(this.range)) return;
    this.range = range;
    this.changed(range);
  }

  // Moves the end of the range, or makes one, by so many hundredths of what is shown.
  extend(steps) {
    this.anchor ??= this.range ? this.range[0] : this.cursor;
    if (this.range) this.cursor = this.range[0] === this.anchor ? this.range[1] : this.range[0];
    this.cursor = this.bounded(this.cursor + steps * this.length / 100);
    const [from, to] = [Math.min(this.anchor, this.cursor), Math.max(this.anchor, this.cursor)];
    if (from === to) this.range = [from, to];
    else this.choose([from, to]);
  }

  // Moves the range, or without one the place where it will begin.
  move(steps) {
    const by = steps * this.length / 100;
    if (!this.range) {
      this.cursor = this.bounded(this.cursor + by);
      this.draw();
      return;
    }
    const [from, to] = this.range;
    const start = Math.min(this.bounded(from + by), this.origin + this.length - (to - from));
    this.choose([start, start + to - from]);
    this.anchor = start;
  }

  bounded(time) {
    return Math.round(Math.min(Math.max(time, this.origin), this.origin + this.length));
  }

  // The lanes that are drawn: which CPU is in which, and how high they are.
  layout() {
    const count = this.lanes ? Math.max(this.model.facts.cpus.length, 1) : 1;
    const height = !this.lanes ? ALL_HEIGHT
      : Math.max(LEAST_LANE, Math.min(LANE_HEIGHT, Math.floor(MOST_LANES_HEIGHT / count)));
    // From the CPU with the lowest number.
    const order = this.model.facts.cpus.map((cpu, index) => [cpu, index]).sort((a, b) => a[0] - b[0]);
    const laneOf = [];
    order.forEach(([, index], lane) => { laneOf[index] = this.lanes ? lane : 0; });
    return { count, height, laneOf };
  }

  // Samples by lane, slot and group of colours.
  counted({ count, laneOf }) {
    const { points, stacks } = this.model;
    const slots = this.slots, groups = this.colours.groups.length;
    const counts = new Float64Array(count * slots * groups);
    for (let point = 0; point < points.count; point++) {
      if (this.thread >= 0 && points.thread[point] !== this.thread) continue;
      const slot = Math.min(Math.floor(points.time[point] / this.length * slots), slots - 1);
      const at = (laneOf[points.cpu[point]] * slots + slot) * groups;
      counts[at + stacks.group[points.stack[point]]] += points.samples[point];
    }
    return counts;
  }

  // What the counts depend on.
  keyOf(lanes) {
    return [lanes.count, this.slots, this.thread].join();
  }

  draw() {
    const lanes = this.layout();
    this.canvas.style.height = `${lanes.count * lanes.height + AXIS}px`;
    const { context, width } = sized(this.canvas);
    const slots = this.slots, groups = this.colours.groups.length;
    const key = this.keyOf(lanes);
    if (this.key !== key) [this.key, this.counts] = [key, this.counted(lanes)];
    const { colours, counts } = this;
    const bottom = lanes.count * lanes.height;
    context.globalAlpha = 1;
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, width, bottom + AXIS);
    let most = 1;
    for (let at = 0; at < counts.length; at += groups) {
      let sum = 0;
      for (let group = 0; group < groups; group++) sum += counts[at + group];
      if (sum > most) most = sum;
    }
    const wide = width / slots;
    for (let lane = 0; lane < lanes.count; lane++) {
      const base = (lane + 1) * lanes.height;
      for (let slot = 0; slot < slots; slot++) {
        let y = base;
        for (let group = 0; group < groups; group++) {
          const count = counts[(lane * slots + slot) * groups + group];
          if (count === 0) continue;
          const high = count / most * (lanes.height - 1);
          context.fillStyle = colours.fill(group, 0);
          context.fillRect(slot * wide, y - high, wide, high);
          y -= high;
        }
      }
    }
    this.drawAxis(context, width, bottom);
    this.drawRange(context, width, bottom);
  }

  drawAxis(context, width, bottom) {
    context.fillStyle = this.colours.quiet;
    context.strokeStyle = this.colours.rule;
    context.lineWidth = 1;
    context.font = '11px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = 'middle';
    const step = roundStep(this.length * 110 / width);
    context.beginPath();
    context.moveTo(0, bottom + 0.5);
    context.lineTo(width, bottom + 0.5);
    for (let time = Math.max(Math.ceil(this.origin / step) * step, 0); time < this.origin + this.length; time += step) {
      const x = Math.round((time - this.origin) / this.length * width) + 0.5;
      context.moveTo(x, bottom);
      context.lineTo(x, bottom + 5);
      if (x + 60 < width) context.fillText(time === 0 ? '0' : duration(time), x + 3, bottom + AXIS / 2 + 1);
    }
    context.stroke();
  }

  // The range that stands out.
  get marked() {
    return this.range;
  }

  drawRange(context, width, bottom) {
    const x = time => (time - this.origin) / this.length * width;
    const { marked } = this;
    context.fillStyle = this.colours.chosen;
    if (!marked) {
      if (document.activeElement === this.canvas) context.fillRect(x(this.cursor) - 1, 0, 2, bottom);
      return;
    }
    const [from, to] = marked.map(x);
    context.fillRect(from - 1, 0, 2, bottom);
    context.fillRect(to - 1, 0, 2, bottom);
    context.fillStyle = this.colours.paper;
    context.globalAlpha = 0.65;
    context.fillRect(0, 0, from - 1, bottom);
    context.fillRect(to + 1, 0, width - to, bottom);
    context.globalAlpha = 1;
  }
}

// 1, 2 or 5 of a power of ten, and at least so much.
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= least);
}
