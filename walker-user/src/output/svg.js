// Zoom, search and details for a flame graph drawn by svg.rs, which is a complete picture without
// this script. Loads nothing, stores nothing, and takes all it knows from the picture.
'use strict';
(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const HTML = 'http://www.w3.org/1999/xhtml';
  const MIN_WIDTH = 900, NARROWEST = 0.1, PADDING = 4, MARGIN = 10;
  const svg = document.documentElement;
  const head = svg.querySelector('.head');
  const details = svg.querySelector('.details');

  // In the order of the document, a frame comes before those above it.
  const frames = [...svg.querySelectorAll('.f')].map(g => {
    const [title, rect, text] = g.children;
    const [name, figures] = title.textContent.split('\n');
    const [start, samples] = [+g.dataset.s, +g.dataset.n];
    const y = +rect.getAttribute('y');
    return { g, rect, text, name, figures, start, samples, end: start + samples, y };
  });
  if (frames.length === 0) return;
  const frameOf = new Map(frames.map(frame => [frame.g, frame]));
  const root = frames[0];
  let width = 0;
  let view = root; // The frame that fills the width.
  let wanted = null; // What is searched: a function that says whether a frame matches.

  details.textContent = 'M'.repeat(100);
  const character = details.getComputedTextLength() / 100 || 7.3;
  const hint = 'Hover over a frame for its figures, click it to zoom in. Click a colour to find it.';
  details.textContent = hint;

  // As much of a text as fits into so many columns; svg.rs does the same.
  function clipped(text, columns) {
    let used = 0, kept = '', count = 0;
    for (const c of text) {
      const step = c <= '\x7f' ? 1 : 2;
      used += step;
      if (used > columns) return count > 2 ? kept + '…' : '';
      if (used + 1 <= columns) kept += c;
      count += 1;
    }
    return text;
  }

  function place(frame, x, room) {
    frame.rect.setAttribute('x', x.toFixed(2));
    frame.rect.setAttribute('width', (room > 3 ? room - 1 : room).toFixed(2));
    const label = clipped(frame.name, (room - 2 * PADDING) / character);
    if (label && !frame.text) {
      frame.text = frame.g.appendChild(document.createElementNS(SVG, 'text'));
      frame.text.setAttribute('y', frame.y + 13);
    }
    if (frame.text) {
      frame.text.setAttribute('x', (x + PADDING).toFixed(2));
      frame.text.textContent = label;
    }
  }

  // Puts every frame where it belongs in the view: those above its frame are spread over the
  // width, its callers fill it, the others are hidden.
  function layout() {
    const scale = width / view.samples;
    for (const frame of frames) {
      const caller = frame.y > view.y && frame.start <= view.start && frame.end >= view.end;
      const inside = frame.y <= view.y && frame.start >= view.start && frame.end <= view.end;
      const room = frame.samples * scale;
      const shown = caller || (inside && room >= NARROWEST);
      frame.g.classList.toggle('off', !shown);
      frame.g.classList.toggle('caller', caller);
      if (caller) place(frame, 0, width);
      else if (shown) place(frame, (frame.start - view.start) * scale, room);
    }
  }

  function fit() {
    const height = svg.getAttribute('height');
    const room = Math.max(MIN_WIDTH, window.visualViewport?.width ?? window.innerWidth);
    if (room === width) return;
    width = room;
    svg.setAttribute('width', width);
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    tools.setAttribute('x', width - 440);
    layout();
  }

  function zoom(frame) {
    view = frame;
    reset.disabled = view === root;
    layout();
    showMatches();
  }

  // Marks what is searched, and says how much of the view it is.
  function showMatches() {
    let end = view.start, sum = 0;
    for (const frame of frames) {
      const hit = wanted !== null && wanted(frame);
      frame.g.classList.toggle('hit', hit);
      // What is above a match is not counted again.
      const from = Math.max(frame.start, end), to = Math.min(frame.end, view.end);
      if (hit && from < to) [sum, end] = [sum + to - from, to];
    }
    svg.classList.toggle('searching', wanted !== null);
    const share = (100 * sum / view.samples).toFixed(2);
    result.textContent = wanted === null ? ''
      : `${share} % ${view === root ? 'matched' : 'of this view'}`;
  }

  // Searches names for a regular expression or, if it is none, for the text itself.
  function search(pattern) {
    let test = null, plain = false;
    if (pattern !== '') {
      try {
        const regex = new RegExp(pattern, 'i');
        test = frame => regex.test(frame.name);
      } catch {
        const text = pattern.toLowerCase();
        test = frame => frame.name.toLowerCase().includes(text);
        plain = true;
      }
    }
    input.classList.toggle('plain', plain);
    wanted = test;
    showMatches();
  }

  function clear() {
    input.value = '';
    search('');
  }

  function element(name, properties) {
    return Object.assign(document.createElementNS(HTML, name), properties);
  }
  const tools = document.createElementNS(SVG, 'foreignObject');
  tools.setAttribute('y', 6);
  tools.setAttribute('width', 430);
  tools.setAttribute('height', 30);
  const bar = element('div', { className: 'tools' });
  const result = element('span');
  const input = element('input', { placeholder: 'search (Ctrl-F)', spellcheck: false });
  input.title = 'A regular expression, or the text itself. Esc clears.';
  const reset = element('button', { textContent: 'reset zoom', disabled: true });
  bar.append(result, input, reset);
  tools.append(bar);
  head.append(tools);

  input.addEventListener('input', () => search(input.value));
  reset.addEventListener('click', () => zoom(root));
  svg.addEventListener('click', event => {
    const frame = frameOf.get(event.target.closest('.f'));
    const key = event.target.closest('.key');
    if (frame) zoom(frame);
    if (key) {
      clear();
      wanted = other => other.g.classList.contains(key.dataset.group);
      showMatches();
    }
  });
  svg.addEventListener('mouseover', event => {
    const frame = frameOf.get(event.target.closest('.f'));
    if (!frame) {
      details.textContent = hint;
      return;
    }
    // A long name gives way to the figures.
    const columns = (width - 2 * MARGIN) / character - frame.figures.length - 3;
    details.textContent = `${clipped(frame.name, columns)} – ${frame.figures}`;
  });
  window.addEventListener('keydown', event => {
    const find = event.key === 'f' && (event.ctrlKey || event.metaKey);
    // A second Ctrl-F is for the browser.
    if (find && document.activeElement !== input) {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === 'Escape') {
      if (wanted !== null) clear();
      else zoom(root);
    }
  });
  window.addEventListener('resize', fit);
  // The heading stays in sight; a graph higher than the window is first shown at its root.
  window.addEventListener('scroll', () => {
    head.setAttribute('transform', `translate(${window.scrollX} ${window.scrollY})`);
  });
  fit();
  window.scrollTo(0, svg.getAttribute('height'));
})();
