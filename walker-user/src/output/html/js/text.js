// Numbers and names as text. The words and digits are those of output/mod.rs, so that all outputs
// of one recording say the same.

export function grouped(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

// Nanoseconds, to three or four digits.
export function duration(nanoseconds) {
  if (nanoseconds < 1e3) return `${Math.round(nanoseconds)} ns`;
  const [unit, name] = nanoseconds < 1e6 ? [1e3, 'µs'] : nanoseconds < 1e9 ? [1e6, 'ms'] : [1e9, 's'];
  const amount = nanoseconds / unit;
  return `${amount.toFixed(amount < 10 ? 3 : amount < 100 ? 2 : 1)} ${name}`;
}

// A weight with its unit.
export function weighed(weight, unit) {
  return unit === 'nanoseconds' ? duration(weight) : `${grouped(weight)} ${unit}`;
}

// A weight where its unit is clear.
export function bare(weight, unit) {
  return unit === 'nanoseconds' ? duration(weight) : grouped(weight);
}

// Part of a whole in percent; nothing of nothing is 0 %.
export function share(part, whole) {
  return `${(whole === 0 ? 0 : part * 100 / whole).toFixed(2)} %`;
}

// As much of a text as fits into so many columns; svg.js does the same.
export function clipped(text, columns) {
  if (text.length * 2 <= columns) return text;
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
