// The theme, and the colours of what is drawn on a canvas: those of frames come with the data
// (palette.rs), all others are custom properties of the style.

const THEMES = ['system', 'light', 'dark'];
const NAMES = ['paper', 'ink', 'quiet', 'rule', 'small', 'marker-ink', 'chosen', 'found'];

export class Colours {
  constructor(groups) {
    this.groups = groups;
    this.system = matchMedia('(prefers-color-scheme: dark)');
    this.theme = 'system';
    this.read();
  }

  get dark() {
    return this.theme === 'system' ? this.system.matches : this.theme === 'dark';
  }

  // The next theme, which it returns.
  turn() {
    this.theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length];
    this.read();
    return this.theme;
  }

  read() {
    const root = document.documentElement;
    root.dataset.theme = this.dark ? 'dark' : 'light';
    const style = getComputedStyle(root);
    for (const name of NAMES) this[name] = style.getPropertyValue(`--${name}`).trim();
    this.fills = this.groups.map(([, shades]) => shades[this.dark ? 1 : 0]);
  }

  fill(group, shade) {
    return this.fills[group][shade];
  }
}
