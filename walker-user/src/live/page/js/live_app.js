// The page while samples come: which time is shown, and how the user's place in the graph is kept
// while it changes. What is the same for recordings is in app.js.

import { App, find } from './app.js';
import { Compared } from './compared.js';
import { boxAt } from './keys.js';
import { LiveStrip } from './live_strip.js';
import { Place } from './place.js';
import { grouped, share, weighed } from './text.js';

// How often what is read, rather than looked at, changes.
const READABLE_MS = 1000;
// The windows of time for which the strip shows minutes.
const LONG_WINDOW = 60;

const signed = part => `${part < 0 ? '−' : '+'}${share(Math.abs(part), 1)}`;

export class LiveApp extends App {
  constructor(model) {
    super(model);
    this.options.apart = false;
    this.place = new Place(model);
    // Seconds, or null for all since the start.
    this.window = 30;
    this.pausedAt = null;
    this.comparing = false;
    this.trouble = '';
    this.compared = null;
    // Whether there is news that is not shown, and whether there are new names among it.
    this.stale = false;
    this.renamed = false;
    this.known = 0;
    this.pointer = null;
    this.held = false;
    this.readAt = 0;
    this.follow();
  }

  makeStrip() {
    return new LiveStrip(find('strip'), this.model, this.colours, range => this.setRange(range), () => this.setPaused(!this.paused));
  }

  // A graph that moves under a pointer that drags it would run away.
  follow() {
    const { canvas } = this.painter;
    canvas.addEventListener('pointerdown', () => { this.held = true; });
    for (const end of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(end, () => {
        this.held = false;
        this.changed();
      });
    }
    canvas.addEventListener('pointermove', event => { this.pointer = [event.offsetX, event.offsetY]; });
    canvas.addEventListener('pointerleave', () => { this.pointer = null; });
  }

  // The stream begins anew.
  reset(snapshot) {
    this.model.reset(snapshot);
    // What was paused, or selected, may be of another run.
    if (this.paused && this.model.slot + 1 < this.pausedAt) this.pausedAt = this.range = this.strip.range = null;
    this.strip.key = null;
    this.known = 0;
    this.again?.();
    this.shape();
  }

  // Takes a delta; returns whether it was the next one.
  add(delta) {
    if (!this.model.isNext(delta)) return false;
    this.model.add(delta);
    this.stale = true;
    this.renamed ||= delta.moved.length > 0;
    this.changed();
    return true;
  }

  get paused() {
    return this.pausedAt !== null;
  }

  // The slot up to which time is shown, not included.
  get end() {
    return this.pausedAt ?? this.model.slot + 1;
  }

  // The slots that are shown, the second not included. The first is null for all since the start.
  get span() {
    if (this.range) return this.range.map(time => Math.round(time / this.model.slotNs));
    if (this.window === null) return [null, this.end];
    return [Math.max(this.end - this.slotsOf(this.window), 0), this.end];
  }

  // As much time before that.
  get before() {
    const [from, to] = this.span;
    return from === null ? null : [Math.max(from - (to - from), 0), from];
  }

  slotsOf(seconds) {
    return Math.round(seconds * 1e9 / this.model.slotNs);
  }

  // Whether samples of the time that is shown were forgotten.
  get outdated() {
    const [from] = this.span;
    return this.paused && (from ?? this.end) < this.model.firstSlot;
  }

  weigh() {
    const { tree, model } = this;
    const { ofStack, samples } = model.weights(this.span);
    tree.sum(ofStack, samples);
    const compares = this.comparing && this.before !== null;
    this.compared = compares ? new Compared(tree, model.weights(this.before).ofStack) : null;
    this.layout();
  }

  // The place is kept by names: numbers may mean something else.
  kept() {
    return null;
  }

  restore() {
    const { tree, boxes, place } = this;
    this.view = place.view(this);
    const chosen = tree.resolve(place.labels(place.chosen));
    this.absent = tree.depth[chosen] < place.chosen.length;
    this.chosen = Math.max(boxes.of(chosen), 0);
    this.hovered = this.pointer ? boxAt(this, ...this.pointer) : -1;
  }

  // Shows what is new, at the place where the user is.
  update() {
    this.stale = false;
    if (this.paused && (!this.renamed || this.outdated)) return;
    this.renamed = false;
    this.updating = true;
    this.weighAll();
    this.updating = false;
  }

  draw() {
    if (this.stale && !this.held) {
      // Drawn below, so not asked for again.
      this.pending = true;
      this.update();
      this.pending = false;
    }
    const readable = performance.now() - this.readAt >= READABLE_MS;
    if (readable) {
      this.readAt = performance.now();
      this.showInspector();
      if (!find('legend').matches(':hover, :focus-within')) this.showLegend();
      this.showHealth();
    }
    super.draw();
    const window = this.window === null ? null : this.span;
    this.strip.advance({ end: this.end, long: this.window === null || this.window > LONG_WINDOW, window });
    this.strip.draw();
    this.measure();
  }

  // How old the latest sample is that is seen now, in milliseconds: at most, as only its slot is known.
  measure() {
    const { rows, beganMs, slotNs } = this.model;
    if (this.paused || rows.end === rows.start) return;
    const newest = rows.slot[rows.end - 1];
    if (newest === this.newest) return;
    this.newest = newest;
    this.age = performance.timeOrigin + performance.now() - (beganMs + newest * slotNs / 1e6);
  }

  setWindow(seconds) {
    this.window = seconds;
    if (this.range) this.strip.choose(null);
    else this.weighAll();
  }

  setPaused(paused) {
    this.pausedAt = paused ? this.model.slot + 1 : null;
    if (this.range) this.strip.choose(null);
    else this.weighAll();
  }

  // A range is looked at, so time stands still; without one it goes on.
  setRange(range) {
    if (range && !this.paused) this.pausedAt = this.model.slot + 1;
    if (!range && this.range) this.pausedAt = null;
    this.range = range;
    this.weighAll();
  }

  setComparing(comparing) {
    this.comparing = comparing;
    this.weighAll();
  }

  // With all stacks that have come since.
  weighAll() {
    this.takeIn();
    this.weigh();
  }

  takeIn() {
    const { tree, model } = this;
    if (tree.leaf.length < model.stacks.count || tree.shownAs.length < model.nodes.count) tree.grow();
    if (this.known < model.labels.count) this.again?.();
    this.known = model.labels.count;
  }

  onStripKey(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (steps && event.shiftKey) this.strip.extend(steps);
    else if (steps) this.strip.move(steps);
    else if (event.key === 'Escape' || event.key === 'Home') this.setPaused(false);
    else return false;
    return true;
  }

  setOrder(order) {
    this.order = order;
    this.layout();
  }

  setSearch(text, regex) {
    this.again = () => this.search.find(text, regex);
    super.setSearch(text, regex);
  }

  setGroup(group) {
    this.again = () => this.search.findGroup(group);
    super.setGroup(group);
  }

  choose(box, reveal) {
    super.choose(box, reveal);
    this.absent = false;
    this.place.choose(this);
  }

  zoomTo(x0, x1) {
    super.zoomTo(x0, x1);
    this.place.zoom(this);
  }

  zoomBox(box) {
    super.zoomBox(box);
    if (box > 0) this.place.zoom(this, box);
  }

  look() {
    const look = { chosen: this.absent ? -1 : this.chosen };
    if (!this.compared) return look;
    const colours = this.model.changes[this.colours.dark ? 1 : 0];
    return { ...look, fill: node => colours[this.compared.level(node, colours.length)] };
  }

  figures(box) {
    const figures = super.figures(box);
    if (!this.compared) return figures;
    const node = this.boxes.node[box];
    return `${signed(this.compared.total[node])}, ${signed(this.compared.own[node])} own; ${figures}`;
  }

  // A selection that changes by itself is not read out.
  showSelection() {
    if (!this.updating) super.showSelection();
  }

  showInspector() {
    const { inspector, boxes, tree, place } = this;
    if (find('inspector').matches(':hover, :focus-within')) return;
    if (this.absent) inspector.say(`${place.chosenName}: no samples in this time.`);
    else inspector.show(tree, this.graph, boxes.count > 0 ? boxes.node[this.chosen] : -1);
  }

  showLegend() {
    if (this.updating) return;
    if (!this.compared) {
      super.showLegend();
      return;
    }
    const scale = document.createElement('span');
    scale.className = 'scale';
    scale.append(...this.model.changes[this.colours.dark ? 1 : 0].map(colour => {
      const step = document.createElement('i');
      step.style.background = colour;
      return step;
    }));
    const gone = this.compared.empty ? 'no samples in the time before' : `${share(this.compared.gone, 1)} before was in frames that are gone`;
    find('legend').replaceChildren(`own share shrank −${share(this.compared.largest, 1)} `, scale, ` +${share(this.compared.largest, 1)} grew; ${gone}`);
  }

  showRange() {
    const { tree, model } = this;
    const [from, to] = this.span;
    const shown = [`${grouped(tree.samples)} samples`];
    if (model.unit !== 'samples') shown.push(weighed(tree.total[0], model.unit));
    const time = slot => `${(slot * model.slotNs / 1e9).toFixed(2)} s`;
    const parts = [`${shown.join(', ')}, ${from === null ? 'since the start' : `${time(from)} to ${time(to)}`}`];
    if (this.compared) parts.push(`against ${this.before.map(time).join(' to ')}`);
    if (this.comparing && !this.compared) parts.push('there is no time before the start to compare with');
    if (this.outdated) parts.push('older than what is kept: the picture stays as it is');
    find('range').textContent = parts.join('; ');
    find('pause').textContent = this.paused ? 'go on' : 'pause';
    const behind = (model.slot + 1 - this.end) * model.slotNs / 1e9;
    this.tell(this.paused ? `paused, ${Math.floor(behind)} s behind` : 'live');
  }

  // What state the page is in; what is wrong comes first.
  tell(state) {
    const text = this.trouble || state;
    if (find('state').textContent !== text) find('state').textContent = text;
    find('state').classList.toggle('lost', Boolean(this.trouble));
  }

  setTrouble(trouble) {
    if (trouble === this.trouble) return;
    this.trouble = trouble;
    this.changed();
  }

  showHealth() {
    const { health } = this.model;
    const all = health.delivered + health.lost;
    const lost = document.createElement('span');
    lost.className = health.lost > 0 ? 'lost' : '';
    lost.textContent = health.lost > 0 ? `${grouped(health.lost)} lost (${share(health.lost, all)})` : '0 lost';
    const filtered = health.filtered > 0 ? `, ${grouped(health.filtered)} filtered` : '';
    const unnamed = health.unnamed > 0 ? `, ${grouped(health.unnamed)} addresses wait for a name` : '';
    find('health').replaceChildren(
      `${grouped(health.rate)} samples/s; ${grouped(health.taken)} taken = ${grouped(health.delivered)} delivered + `, lost,
      `${filtered}; ${share(health.complete, health.delivered)} of walks complete${unnamed}. stackwalk: ${share(health.cpu, 1)} of a CPU, `
      + `${grouped(health.memory / 2 ** 20)} MiB, ${grouped(health.clients)} ${health.clients === 1 ? 'page' : 'pages'}`,
    );
  }

  // Where what is seen can be had in a format.
  download(format) {
    const { options, model } = this;
    const [from, to] = this.span;
    const query = new URLSearchParams(from === null ? { window: 'start' } : { from, to });
    for (const [name, value] of Object.entries(options)) query.set(name, name === 'processes' ? value : Number(value));
    return `download/${format}?${query}`;
  }
}
