// The panel that tells all of the selected frame. All text goes into text nodes: names are hostile.

import { neighbours, ofLabel, origins, walks } from './facts.js';
import { bare, duration, grouped, share, weighed } from './text.js';

const MOST_NEIGHBOURS = 10, MOST_ORIGINS = 5;

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export class Inspector {
  // `go` is called with the node of a caller or callee that is clicked.
  constructor(panel, model, go) {
    Object.assign(this, { panel, model, go });
  }

  say(text) {
    this.panel.replaceChildren(element('p', 'quiet', text));
  }

  // Shows `node` of `tree`. `boxes` are those of the tree as a flame graph, whatever is drawn.
  show(tree, boxes, node) {
    const { model, panel } = this;
    if (node < 0 || boxes.count === 0) {
      this.say('No samples here.');
      return;
    }
    const { unit, labels } = model;
    const label = tree.label[node];
    const whole = tree.total[0];
    const all = ofLabel(boxes, tree, label);
    const { callers, callees } = neighbours(boxes, tree, label);
    const ends = walks(tree, node);
    const from = origins(tree, node);
    const list = element('dl');
    const row = (name, ...values) => {
      list.append(element('dt', '', name), ...values.map(value => element('dd', '', value)));
    };
    const some = (name, values) => {
      if (values.length === 0) return;
      const rest = values.length - MOST_ORIGINS;
      row(name, ...values.slice(0, MOST_ORIGINS), ...(rest > 0 ? [`and ${grouped(rest)} more`] : []));
    };
    row('is', model.texts[labels.words[label]] + (tree.model.nameOf(label).startsWith('? ')
      ? ', the rest of the stack could not be unwound' : ''));
    some('module', from.modules);
    some('source', from.sources);
    some('file', from.objects.map(([path]) => path));
    some('build ID', from.objects.map(([, id]) => id ?? 'none'));
    row('total', `${weighed(tree.total[node], unit)}, ${share(tree.total[node], whole)}`);
    row('own', `${weighed(tree.own[node], unit)}, ${share(tree.own[node], whole)}`);
    if (all.total !== tree.total[node] || all.own !== tree.own[node]) {
      row('all of this name', `${weighed(all.total, unit)}, ${share(all.total, whole)}, ${bare(all.own, unit)} own`);
    }
    row('incomplete walks', ends.incomplete === 0 ? 'none' : share(ends.incomplete, tree.total[node]),
      ...ends.stops.map(([words, weight]) => `${words}: ${weighed(weight, unit)}`));
    if (model.facts.timed) row('seen', `first at ${duration(ends.first)}`, `last at ${duration(ends.last)}`);
    panel.replaceChildren(
      element('h2', '', element('bdi', '', model.nameOf(label))),
      list,
      ...this.table(tree, 'callers', callers, all.total),
      ...this.table(tree, 'callees', callees, all.total),
    );
  }

  table(tree, title, entries, whole) {
    const top = entries.slice(0, MOST_NEIGHBOURS);
    const rest = entries.length - top.length;
    const items = top.map(({ label, weight, node }) => {
      const name = element('button', 'link', element('bdi', '', this.model.nameOf(label)));
      name.type = 'button';
      name.addEventListener('click', () => this.go(node));
      return element('li', '', element('span', 'figure', share(weight, whole)), name);
    });
    const heading = rest > 0 ? `${title}, top ${top.length} of ${grouped(entries.length)}` : title;
    return [
      element('h3', '', heading),
      items.length > 0 ? element('ol', '', ...items) : element('p', 'quiet', 'none'),
    ];
  }
}
