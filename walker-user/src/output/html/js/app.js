// What is shown, and what changes it: the options, the range of time, the view, the selected frame,
// the search. Draws once for all changes between two frames of the screen.

import { chart, covers, windowOf } from './chart.js';
import { Colours } from './colours.js';
import { graph } from './graph.js';
import { Inspector } from './inspector.js';
import { INLINED, RELIABLE } from './model.js';
import { Painter, ROW } from './painter.js';
import { Search } from './search.js';
import { Strip } from './strip.js';
import { bare, clipped, duration, grouped, share, weighed } from './text.js';
import { Tree, select } from './tree.js';

const HINT = 'Hover over a frame for its figures, click it to zoom in. Click a colour to find it.';

export const find = id => document.getElementById(id);

export class App {
  constructor(model) {
    this.model = model;
    this.options = { markers: true, inlined: true, kernel: true, user: true, processes: 'name' };
    this.order = 'name';
    this.icicle = false;
    this.thread = -1;
    this.range = null;
    this.hovered = -1;
    this.chosen = 0;
    this.view = [0, 1];
    this.colours = new Colours(model.facts.groups);
    this.search = new Search(model);
    this.painter = new Painter(find('canvas'), model, this.colours);
    this.strip = this.makeStrip();
    this.inspector = new Inspector(find('inspector'), model, node => this.choose(this.boxOf(node), true));
    this.pending = false;
  }

  makeStrip() {
    return new Strip(find('strip'), this.model, this.colours, range => this.setRange(range));
  }

  // What the painter needs to know besides the boxes.
  look() {
    return {};
  }

  // From the options to the tree; from the samples to its weights; to boxes. Each keeps what is
  // selected and zoomed, by the names on the way there.
  shape() {
    const kept = this.kept();
    this.tree = new Tree(this.model, this.options);
    this.weigh(kept);
  }

  weigh(kept = this.kept()) {
    const [from, to] = this.range ?? [0, Infinity];
    this.tree.weigh(select(this.model.points, { from, to, thread: this.thread }));
    this.layout(kept);
  }

  layout(kept = this.kept()) {
    const { tree } = this;
    this.graph = graph(tree, this.order === 'weight');
    this.boxes = this.order === 'time' ? chart(tree) : this.graph;
    this.deepest = this.graph.deepest;
    this.hovered = -1;
    this.restore(kept);
    this.matches = null;
    this.refine();
    this.showSelection();
    this.showLegend();
    this.changed();
  }

  // The view and the selected frame of what was kept.
  restore(kept) {
    const { tree, boxes } = this;
    this.view = [0, boxes.width || 1];
    this.chosen = 0;
    if (!kept) return;
    const zoomed = boxes.of(tree.resolve(kept.zoomed));
    if (zoomed > 0) this.view = [boxes.x0[zoomed], boxes.x1[zoomed]];
    this.chosen = Math.max(boxes.of(tree.resolve(kept.chosen)), 0);
  }

  kept() {
    const { tree, boxes } = this;
    if (!boxes) return null;
    const path = box => boxes.count > 0 && boxes.node[box] >= 0 ? tree.path(boxes.node[box]) : [];
    return { chosen: path(this.chosen), zoomed: path(this.zoomedBox()) };
  }

  // The box that fills the view: the first of exactly its width. The root's, if there is none.
  zoomedBox() {
    const { boxes, view: [x0, x1] } = this;
    for (let box = 0; box < boxes.count;) {
      if (boxes.x0[box] === x0 && boxes.x1[box] === x1) return box;
      box = boxes.x0[box] <= x0 && boxes.x1[box] >= x1 ? box + 1 : boxes.end[box];
    }
    return 0;
  }

  // Lays the part of a chart out that is in view, if it is not fine enough as it is.
  refine() {
    if (this.order !== 'time' || covers(this.boxes, this.view)) return;
    const { boxes } = this;
    const { chosen, hovered } = this;
    const middle = chosen < boxes.count ? (boxes.x0[chosen] + boxes.x1[chosen]) / 2 : 0;
    const depth = chosen < boxes.count ? boxes.depth[chosen] : 0;
    this.boxes = chart(this.tree, windowOf(this.view, boxes.width));
    this.chosen = Math.max(this.boxes.at(middle, depth), 0);
    this.hovered = hovered < 0 ? -1 : 0;
    this.matches = null;
  }

  setOption(name, value) {
    this.options[name] = value;
    this.shape();
  }

  // In the order of time threads in turn would be a jumble: it begins with the busiest one.
  setOrder(order) {
    this.order = order;
    const threads = find('thread');
    if (order === 'time' && this.thread < 0 && !this.timeSeen && threads.options.length > 1) {
      threads.selectedIndex = 1;
      this.setThread(+threads.value);
    } else {
      this.layout();
    }
    this.timeSeen ||= order === 'time';
  }

  setRoot(where) {
    this.icicle = where === 'top';
    this.scrollToRoot();
    this.changed();
  }

  setThread(thread) {
    this.thread = thread;
    this.strip.thread = thread;
    this.weigh();
  }

  // Shows the samples of a range of time only, or all of them.
  setRange(range) {
    this.range = range;
    this.weigh();
  }

  // A key that is for the strip of time; returns whether it was.
  onStripKey(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!this.model.facts.timed) return false;
    if (steps && event.shiftKey) this.strip.extend(steps);
    else if (steps) this.strip.move(steps);
    else if (event.key === 'Escape' || event.key === 'Home') this.strip.choose(null);
    else return false;
    return true;
  }

  setSearch(text, regex) {
    this.search.find(text, regex);
    this.searched();
  }

  setGroup(group) {
    this.search.findGroup(group);
    this.searched();
  }

  searched() {
    this.matches = null;
    this.changed();
  }

  zoomTo(x0, x1) {
    const width = this.boxes.width || 1;
    // Below this there is nothing to see, and no number between two others.
    const room = Math.min(Math.max(x1 - x0, width * 1e-9), width);
    const start = Math.min(Math.max(x0, 0), width - room);
    // Boxes are found by their exact edges.
    this.view = start === x0 && x1 - x0 === room ? [x0, x1] : [start, start + room];
    this.refine();
    this.changed();
  }

  zoomBox(box) {
    if (box < 0 || this.boxes.count === 0) return;
    const { x0, x1 } = this.boxes;
    this.zoomTo(x0[box], x1[box]);
  }

  zoomOut() {
    this.zoomBox(this.boxes.around(...this.view));
  }

  zoomBy(factor, at) {
    const [x0, x1] = this.view;
    const { boxes, chosen } = this;
    let middle = at ?? (boxes.x0[chosen] + boxes.x1[chosen]) / 2;
    if (!(middle >= x0 && middle <= x1)) middle = (x0 + x1) / 2;
    this.zoomTo(middle - (middle - x0) * factor, middle + (x1 - middle) * factor);
  }

  pan(pixels) {
    const [x0, x1] = this.view;
    const by = pixels / this.painter.canvas.clientWidth * (x1 - x0);
    const limited = Math.min(Math.max(by, -x0), (this.boxes.width || 1) - x1);
    this.zoomTo(x0 + limited, x1 + limited);
  }

  // Selects a box; with `reveal`, brings it into view.
  choose(box, reveal) {
    if (box < 0 || box >= this.boxes.count || this.boxes.node[box] < 0) return;
    this.chosen = box;
    if (reveal) this.reveal(box);
    this.showSelection();
    this.changed();
  }

  reveal(box) {
    const { boxes, view: [x0, x1] } = this;
    const pixels = (boxes.x1[box] - boxes.x0[box]) / (x1 - x0) * this.painter.canvas.clientWidth;
    const outside = boxes.x1[box] <= x0 || boxes.x0[box] >= x1;
    if (outside || pixels < 2) {
      const around = boxes.up[box] < 0 ? box : boxes.up[box];
      this.zoomBox(around);
    }
    const scroll = find('scroll'), top = this.topOf(this.boxes.depth[this.chosen]);
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    if (top + ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + ROW - scroll.clientHeight;
  }

  // Where a row is, in pixels from the top of all rows.
  topOf(depth) {
    return (this.icicle ? depth : this.rows - 1 - depth) * ROW;
  }

  // All rows, of which there are at least as many as the window has room for.
  get rows() {
    return Math.max(this.deepest + 1, Math.floor(find('scroll').clientHeight / ROW));
  }

  // The box of a node, the first if there are several.
  boxOf(node) {
    return this.boxes.of(node);
  }

  // Whether a box is wide enough in this view to be told apart.
  visible(box) {
    const { boxes, view: [x0, x1] } = this;
    const pixel = (x1 - x0) / this.painter.canvas.clientWidth;
    return boxes.node[box] >= 0 && boxes.x1[box] - boxes.x0[box] >= pixel / 2
      && boxes.x1[box] > x0 && boxes.x0[box] < x1;
  }

  scrollToRoot() {
    this.fit();
    find('scroll').scrollTop = this.icicle ? 0 : this.rows * ROW;
  }

  // Makes room for all rows, whichever are drawn.
  fit() {
    const scroll = find('scroll');
    const hidden = Math.max(this.rows * ROW - scroll.clientHeight, 0);
    const height = `${hidden}px`;
    if (find('space').style.height === height) return;
    // A flame graph keeps its distance from the root.
    const below = parseFloat(find('space').style.height || 0) - scroll.scrollTop;
    find('space').style.height = height;
    if (!this.icicle) scroll.scrollTop = hidden - below;
  }

  changed() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  draw() {
    this.fit();
    if (this.matches === null) {
      const { search, boxes, tree } = this;
      this.matches = { before: search.before(boxes, tree), weight: search.weight(tree) };
    }
    const small = this.painter.draw({
      boxes: this.boxes,
      tree: this.tree,
      view: this.view,
      icicle: this.icicle,
      rows: this.rows,
      top: find('scroll').scrollTop,
      chosen: this.chosen,
      hovered: this.hovered,
      hits: this.search.hits,
      before: this.matches.before,
      ...this.look(),
    });
    if (this.model.facts.timed) this.strip.draw();
    this.showNote(small);
    this.showMatches();
    this.showRange();
    this.showDetails();
    find('reset').disabled = this.view[0] === 0 && this.view[1] === (this.boxes.width || 1);
    this.drawn = (this.drawn ?? 0) + 1;
  }

  showNote(small) {
    const note = small === 0 ? ''
      : `${grouped(small)} frames are narrower than half a pixel and drawn together, pale: zoom in to see them.`;
    const empty = this.boxes.count === 0 || this.tree.total[0] === 0 ? 'No samples in this selection.' : '';
    if (find('note').textContent !== (empty || note)) find('note').textContent = empty || note;
  }

  showMatches() {
    const { search, tree, view, boxes } = this;
    const parts = [];
    if (search.active) {
      parts.push(`${share(this.matches.weight, tree.total[0])} matched`);
      const zoomed = view[1] - view[0] < boxes.width;
      if (zoomed && this.order !== 'time') {
        parts.push(`${share(search.weightBetween(boxes, tree, view), view[1] - view[0])} of this view`);
      }
    }
    if (search.error) parts.push(search.error);
    find('result').classList.toggle('lost', search.error !== '');
    if (find('result').textContent !== parts.join(', ')) find('result').textContent = parts.join(', ');
  }

  showRange() {
    const { tree, range, model } = this;
    const shown = [`${grouped(tree.samples)} samples`];
    if (model.unit !== 'samples') shown.push(weighed(tree.total[0], model.unit));
    const thread = this.thread < 0 ? '' : ` of thread ${model.facts.threads[this.thread][0]}`;
    const time = range ? `from ${duration(range[0])} to ${duration(range[1])}` : 'all of the time';
    find('range').textContent = `shown: ${shown.join(', ')}${thread}, ${time}`;
    find('all').disabled = range === null;
  }

  // A frame's figures in the words of svg.rs.
  figures(box) {
    const { tree, boxes, model } = this;
    const node = boxes.node[box], label = tree.label[node];
    const chart = this.order === 'time';
    const weight = chart ? boxes.x1[box] - boxes.x0[box] : tree.total[node];
    const parts = [weighed(weight, model.unit), share(weight, tree.total[0])];
    if (!chart) parts.push(`${bare(tree.own[node], model.unit)} own`);
    parts.push(model.texts[model.labels.words[label]]);
    if (!(model.labels.flags[label] & RELIABLE)) parts.push('the rest of the stack could not be unwound');
    return parts.join(', ');
  }

  nameOf(box) {
    return this.model.nameOf(this.tree.label[this.boxes.node[box]]);
  }

  showDetails() {
    const { boxes, hovered } = this;
    const over = hovered >= 0 && hovered < boxes.count;
    if (!over) {
      find('details').textContent = HINT;
    } else if (boxes.node[hovered] < 0) {
      find('details').textContent = `${grouped(-boxes.node[hovered])} frames that are too small to be shown: zoom in to see them`;
    } else {
      const figures = this.figures(hovered);
      const columns = find('details').clientWidth / (this.painter.character || 7) - figures.length - 3;
      find('details').textContent = `${clipped(this.nameOf(hovered), Math.max(columns, 12))} – ${figures}`;
    }
  }

  showSelection() {
    const { boxes, chosen, tree } = this;
    const node = boxes.count > 0 ? boxes.node[chosen] : -1;
    find('selected').textContent = node < 0 ? 'nothing is selected' : `${this.nameOf(chosen)}, ${this.figures(chosen)}, row ${boxes.depth[chosen] + 1}`;
    this.inspector.show(tree, this.graph, tree.total[0] > 0 ? node : -1);
  }

  // What the colours mean, and how much was sampled there.
  showLegend() {
    const { tree, model: { labels, facts } } = this;
    const own = new Float64Array(facts.groups.length), there = new Set();
    let unreliable = false, inlined = false;
    for (let node = 0; node < tree.size; node++) {
      if (tree.total[node] === 0) continue;
      const label = tree.label[node], group = labels.group[label];
      there.add(group);
      own[group] += tree.own[node];
      unreliable ||= !(labels.flags[label] & RELIABLE);
      inlined ||= (labels.flags[label] & INLINED) !== 0;
    }
    const said = text => Object.assign(document.createElement('span'), { textContent: text });
    const keys = [said('sampled in:')];
    facts.groups.forEach(([name], group) => {
      if (!there.has(group)) return;
      const key = document.createElement('button');
      key.type = 'button';
      key.className = 'key';
      const colour = document.createElement('i');
      colour.style.background = this.colours.fill(group, 0);
      key.append(colour, own[group] === 0 ? name : `${name} ${share(own[group], tree.total[0])}`);
      key.addEventListener('click', () => {
        find('search').value = '';
        this.setGroup(group);
      });
      keys.push(key);
    });
    if (unreliable) keys.push(said('dashed: not unwound'));
    if (inlined) keys.push(said('pale: inlined'));
    find('legend').replaceChildren(...keys);
  }
}
