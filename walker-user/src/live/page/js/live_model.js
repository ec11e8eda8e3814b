// What the stream has told: the tables, the sums since the start and the rows of the last minutes,
// in the form that tree.js, painter.js and inspector.js read. Nothing here is about a view.

import { CLASS, RELIABLE } from './model.js';
import { Rows } from './rows.js';

// The version of the protocol that this page reads.
const VERSION = 1;
const LABEL = ['name', 'class', 'kind', 'group', 'flags', 'shade', 'collapsed', 'words'];
const FRAME = ['label', 'module', 'file', 'line', 'object'];
const HEAD = ['event', 'name', 'process', 'thread'];

// Adds rows of a table to its columns.
function append(table, names, rows) {
  for (const row of rows) names.forEach((name, column) => table[name].push(row[column]));
}

// The name in a key that `keyOf` made.
export const nameOfKey = key => key.replace(/^\d+ \d+ \d+ /, '');

const columns = names => Object.fromEntries(names.map(name => [name, []]));

export class LiveModel {
  constructor(snapshot) {
    this.rows = new Rows();
    this.reset(snapshot);
  }

  // Begins anew. All numbers mean something else then, unless the generation is the same.
  reset(snapshot) {
    if (snapshot.version !== VERSION) throw new Error(`the stream is of version ${snapshot.version}, this page reads ${VERSION}`);
    const { title, unit, groups, changes, kinds, interrupts, cpus } = snapshot;
    Object.assign(this, { title, unit, changes, kinds, interrupts });
    this.slotNs = snapshot.slot_ns;
    this.beganMs = snapshot.began_ms;
    // `timed` is about samples one by one, which the stream does not have.
    this.facts = { groups, cpus, stops: [], objects: [], timed: false };
    this.points = { time: [] };
    this.texts = [];
    this.labels = { count: 0, rank: new Uint32Array(0), byName: [], ...columns(LABEL) };
    this.labelOfKey = new Map();
    this.frames = columns(FRAME);
    this.heads = columns(HEAD);
    this.nodes = { count: 0, parent: [], step: [], group: [] };
    this.stacks = { count: 0, node: [], stop: [], group: [] };
    // Since the start, by stack.
    this.sums = { samples: [], weight: [] };
    this.rows.clear();
    this.take(snapshot);
    for (const [stack, samples, weight] of snapshot.sums) {
      this.sums.samples[stack] = samples;
      this.sums.weight[stack] = weight;
    }
    this.rows.add(snapshot.rows);
  }

  // Whether a delta is the one that comes next.
  isNext(delta) {
    return delta.generation === this.generation && delta.seq === this.seq + 1;
  }

  add(delta) {
    this.take(delta);
    this.move(delta.moved);
    const { rows } = delta;
    for (let at = 0; at < rows.length; at += 5) {
      this.sums.samples[rows[at + 2]] += rows[at + 3];
      this.sums.weight[rows[at + 2]] += rows[at + 4];
    }
    this.rows.add(rows);
    this.rows.forget(this.firstSlot);
  }

  // What snapshots and deltas have in common.
  take(event) {
    const { labels, nodes, stacks, heads, frames, facts } = this;
    this.generation = event.generation;
    this.seq = event.seq;
    this.slot = event.slot;
    this.firstSlot = event.first_slot;
    this.health = event.health;
    for (const text of event.texts) this.texts.push(text);
    append(labels, LABEL, event.labels);
    this.rankLabels();
    append(frames, FRAME, event.frames);
    append(heads, HEAD, event.heads);
    facts.objects.push(...event.objects);
    facts.stops.push(...event.stops);
    for (const [parent, step] of event.nodes) {
      nodes.parent.push(parent);
      nodes.step.push(step);
      nodes.group.push(this.groupOf(parent, step));
    }
    nodes.count = nodes.parent.length;
    for (const [node, stop] of event.stacks) {
      stacks.node.push(node);
      stacks.stop.push(stop);
      stacks.group.push(nodes.group[node]);
      this.sums.samples.push(0);
      this.sums.weight.push(0);
    }
    stacks.count = stacks.node.length;
  }

  // The group of colours of the code that a sample with this leaf was in: notes are no code.
  groupOf(parent, step) {
    const { labels, frames, heads, nodes } = this;
    if (parent < 0) return labels.group[heads.name[step]];
    const label = frames.label[step];
    return labels.class[label] === CLASS.NOTE ? nodes.group[parent] : labels.group[label];
  }

  // Puts new labels where they belong among those that are ranked by name.
  rankLabels() {
    const { labels, texts } = this;
    const count = labels.name.length;
    if (count === labels.count) return;
    const before = (a, b) => {
      const [x, y] = [texts[labels.name[a]], texts[labels.name[b]]];
      return x < y ? -1 : x > y ? 1 : a - b;
    };
    const fresh = Array.from({ length: count - labels.count }, (_, i) => labels.count + i).sort(before);
    const merged = new Uint32Array(count);
    for (let at = 0, old = 0, next = 0; at < count; at++) {
      const first = next === fresh.length || (old < labels.count && before(labels.byName[old], fresh[next]) < 0);
      merged[at] = first ? labels.byName[old++] : fresh[next++];
    }
    labels.byName = merged;
    labels.rank = new Uint32Array(count);
    merged.forEach((label, rank) => { labels.rank[label] = rank; });
    for (const label of fresh) this.labelOfKey.set(this.keyOf(label), label);
    labels.count = count;
  }

  move(moved) {
    if (moved.length === 0) return;
    // From the last on, so that what moved twice goes to where it went at last.
    const ends = new Map();
    for (const [from, to] of moved.toReversed()) ends.set(from, ends.get(to) ?? to);
    for (const [from, to] of moved) {
      for (const sums of [this.sums.samples, this.sums.weight]) {
        sums[to] += sums[from];
        sums[from] = 0;
      }
    }
    this.rows.move(ends);
  }

  // The name of a label that is the same in all generations.
  keyOf(label) {
    const { labels, texts } = this;
    return `${labels.class[label]} ${labels.kind[label]} ${labels.flags[label]} ${texts[labels.name[label]]}`;
  }

  nameOf(label) {
    return (this.labels.flags[label] & RELIABLE ? '' : '? ') + this.texts[this.labels.name[label]];
  }

  // The weights by stack, and how many samples they are of, in the slots [from, to); `from` is null
  // for all since the start.
  weights([from, to]) {
    const ofStack = new Float64Array(this.stacks.count);
    if (from !== null) return { ofStack, samples: this.rows.sum([from, to], ofStack) };
    ofStack.set(this.sums.weight);
    const later = this.rows.sum([to, Infinity], ofStack, -1);
    return { ofStack, samples: this.sums.samples.reduce((sum, more) => sum + more, 0) - later };
  }
}
