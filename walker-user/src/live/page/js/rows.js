// The samples of the last minutes: one row for each stack on each CPU in each slot of time, as in
// docs/live-protocol.md, in columns. What is too old is forgotten.

import { lowerBound } from './tree.js';

const COLUMNS = { slot: Uint32Array, cpu: Uint16Array, stack: Uint32Array, samples: Uint32Array, weight: Float64Array };
const LEAST = 4096;

export class Rows {
  constructor() {
    this.clear();
  }

  clear() {
    // Rows are those from `start` on, up to `end`.
    this.start = 0;
    this.end = 0;
    for (const [name, Column] of Object.entries(COLUMNS)) this[name] = new Column(LEAST);
  }

  // Adds rows that are flat, five numbers each, and not before those that are there.
  add(flat) {
    this.makeRoom(flat.length / 5);
    for (let at = 0; at < flat.length; at += 5) {
      const row = this.end++;
      this.slot[row] = flat[at];
      this.cpu[row] = flat[at + 1];
      this.stack[row] = flat[at + 2];
      this.samples[row] = flat[at + 3];
      this.weight[row] = flat[at + 4];
    }
  }

  makeRoom(more) {
    if (this.end + more <= this.slot.length) return;
    const count = this.end - this.start;
    const capacity = Math.max(LEAST, 2 ** Math.ceil(Math.log2((count + more) * 1.5)));
    for (const [name, Column] of Object.entries(COLUMNS)) {
      const column = new Column(capacity);
      column.set(this[name].subarray(this.start, this.end));
      this[name] = column;
    }
    this.start = 0;
    this.end = count;
  }

  // Forgets the rows before a slot.
  forget(slot) {
    this.start = this.first(slot);
  }

  // The first row that is not before a slot.
  first(slot) {
    return this.start + lowerBound(this.slot.subarray(this.start, this.end), slot);
  }

  // Each stack of the first numbers of `ends` is counted as the second from now on.
  move(ends) {
    for (let row = this.start; row < this.end; row++) {
      const end = ends.get(this.stack[row]);
      if (end !== undefined) this.stack[row] = end;
    }
  }

  // Adds the weights by stack of the slots [from, to), times `sign`; returns how many samples these are.
  sum([from, to], ofStack, sign = 1) {
    let samples = 0;
    const { slot, stack, weight } = this;
    for (let row = this.first(from); row < this.end && slot[row] < to; row++) {
      ofStack[stack[row]] += sign * weight[row];
      samples += this.samples[row];
    }
    return samples;
  }
}
