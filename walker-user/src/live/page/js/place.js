// Where the user is in a graph that changes: the frame that is zoomed in on, the part of it that is
// seen, and the frame that is selected; by names, so that they are found again wherever they are.

import { nameOfKey } from './live_model.js';

export class Place {
  constructor(model) {
    this.model = model;
    this.zoomed = [];
    this.part = [0, 1];
    this.chosen = [];
  }

  keys(tree, node) {
    return node < 0 ? [] : tree.path(node).map(label => this.model.keyOf(label));
  }

  // The labels of the way to a place, as far as there are any now.
  labels(keys) {
    const labels = keys.map(key => this.model.labelOfKey.get(key));
    const end = labels.indexOf(undefined);
    return end < 0 ? labels : labels.slice(0, end);
  }

  // What the selected frame is called.
  get chosenName() {
    return nameOfKey(this.chosen.at(-1) ?? '');
  }

  choose({ tree, boxes, chosen }) {
    this.chosen = this.keys(tree, boxes.count > 0 ? boxes.node[chosen] : -1);
  }

  // Remembers the view: a part of the smallest box that holds it.
  zoom({ tree, boxes, view: [from, to] }, exact) {
    if (boxes.count === 0) return;
    const box = exact > 0 ? exact : boxes.around(from, to);
    const [x0, x1] = [boxes.x0[box], boxes.x1[box]];
    this.zoomed = this.keys(tree, boxes.node[box]);
    this.part = x1 > x0 ? [(from - x0) / (x1 - x0), (to - x0) / (x1 - x0)] : [0, 1];
  }

  // The view of the same place now: of what there still is on the way to it.
  view({ tree, boxes }) {
    const labels = this.labels(this.zoomed), node = tree.resolve(labels);
    const box = boxes.of(node);
    if (box < 0) return [0, boxes.width || 1];
    const [x0, x1] = [boxes.x0[box], boxes.x1[box]];
    const whole = this.part[0] === 0 && this.part[1] === 1;
    if (whole || labels.length < this.zoomed.length || tree.depth[node] < labels.length) return [x0, x1];
    return this.part.map(part => x0 + part * (x1 - x0));
  }
}
