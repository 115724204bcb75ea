// Small SVG charts. Colours are classes, because the style sheet has both themes.

/** An accuracy and its interval on an axis from 0 to 1. */
function intervalPlot(rows, width = 180) {
  const step = 12;
  const height = rows.length * step + 6;
  const x = (value) => 4 + value * (width - 8);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((v) => s('line', { class: v % 0.5 ? 'grid faint' : 'grid', x1: x(v), x2: x(v), y1: 0, y2: height }));
  const marks = rows.map(({ run, value, ci }, i) => {
    if (!known(value)) return null;
    const y = 9 + i * step;
    return [
      ci && s('line', { class: `range run-${run % 8}`, x1: x(ci[0]), x2: x(ci[1]), y1: y, y2: y }),
      s('circle', { class: `dot run-${run % 8}`, cx: x(value), cy: y, r: 3.2 }),
    ];
  });
  return s('svg', { class: 'interval', viewBox: `0 0 ${width} ${height}`, width, height, 'aria-hidden': 'true' }, grid, marks);
}

/** Shares of episodes by a number or a word, with the runs side by side. */
function histogram(title, series) {
  const keys = [...new Set(series.flatMap((one) => one.counts.map(([key]) => key)))];
  const numeric = keys.length > 0 && keys.every((key) => typeof key === 'number');
  if (numeric) keys.sort((a, b) => a - b);
  const lines = series.map(({ run, counts }) => {
    const total = counts.reduce((sum, [, n]) => sum + n, 0) || 1;
    const byKey = new Map(counts);
    return { run, shares: keys.map((key) => (byKey.get(key) || 0) / total), byKey };
  });
  const top = Math.max(0.01, ...lines.flatMap((line) => line.shares));
  const said = lines.map((line) => `${DATA.runs[line.run].name}: ${keys.map((key, i) => `${key}: ${pct(line.shares[i], 0)}`).join(', ')}`);
  return h('figure', { class: 'histogram' },
    h('figcaption', {}, title),
    numeric ? columns(keys, lines, top, said) : bars(keys, lines, top));
}

function columns(keys, lines, top, said) {
  const [width, height, base] = [260, 116, 96];
  const slot = (width - 8) / keys.length;
  const bar = Math.min(22, (slot * 0.78) / lines.length);
  const every = Math.ceil(keys.length / 12);
  const shapes = keys.map((key, k) => {
    const left = 4 + slot * (k + 0.5) - (bar * lines.length) / 2;
    return [
      lines.map(({ run, shares }, i) => {
        const tall = Math.max(shares[k] > 0 ? 1 : 0, (shares[k] / top) * (base - 16));
        return s('rect', { class: `bar run-${run % 8}`, x: left + i * bar, y: base - tall, width: Math.max(1, bar - 1), height: tall },
          s('title', {}, `${DATA.runs[run].name}: ${key}: ${pct(shares[k])}`));
      }),
      k % every === 0 && s('text', { class: 'tick', x: 4 + slot * (k + 0.5), y: base + 14, 'text-anchor': 'middle' }, key),
    ];
  });
  return s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': said.join('. ') },
    s('text', { class: 'tick', x: 4, y: 9 }, pct(top, 0)),
    s('line', { class: 'axis', x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }), shapes);
}

function bars(keys, lines, top) {
  if (!keys.length) return h('p', { class: 'muted' }, 'None.');
  return h('ul', { class: 'bars' }, keys.map((key, k) => h('li', {},
    h('span', { class: 'name' }, String(key).replaceAll('_', ' ')),
    lines.map(({ run, shares, byKey }) => {
      const fillBar = h('span', { class: `fill run-${run % 8}` });
      fillBar.style.width = `${(100 * shares[k]) / top}%`;
      return h('span', { class: 'bar-line' }, h('span', { class: 'track' }, fillBar),
        h('span', { class: 'count' }, `${whole(byKey.get(key) || 0)}`));
    }))));
}

const PANELS = [
  ['Reward', ['reward'], null],
  ['Accuracy', ['accuracy'], 1],
  ['Turns', ['turns'], null],
  ['Tool use', ['grounding', 'vision', 'malformed'], null],
];

/** The four panels of a training run. */
function curvePanels(curves) {
  const drawn = PANELS.map(([title, names, top]) => [title, names.filter((name) => curves.lines[name]), top]);
  return h('div', { class: 'panels' }, drawn.filter(([, names]) => names.length).map(([title, names, top]) => curvePanel(curves, title, names, top)));
}

function curvePanel(curves, title, names, top) {
  const [width, height, left, right, bottom] = [300, 176, 32, 8, 22];
  const xs = curves.steps;
  const banded = (line) => (line.std || []).map((std, i) => (known(std) && known(line.mean[i]) ? line.mean[i] + std : null));
  const values = names.flatMap((name) => [...curves.lines[name].raw, ...curves.lines[name].mean, ...banded(curves.lines[name])].filter(known));
  let [low, high] = [Math.min(0, ...values), top ?? Math.max(0.01, ...values)];
  if (top === null) high += 0.06 * (high - low);
  const span = Math.max(1, xs.at(-1) - xs[0]);
  const x = (v) => left + ((v - xs[0]) / span) * (width - left - right);
  const y = (v) => height - bottom - ((Math.min(high, Math.max(low, v)) - low) / (high - low)) * (height - bottom - 8);
  const path = (line) => {
    let pen = 'M';
    return line.map((v, i) => {
      if (!known(v)) { pen = 'M'; return ''; }
      const piece = `${pen}${x(xs[i]).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = 'L';
      return piece;
    }).join('');
  };
  const ticks = niceTicks(low, high);
  const lines = names.map((name, i) => {
    const line = curves.lines[name];
    return [
      line.std && s('path', { class: 'band', d: bandPath(xs, line, x, y) }),
      s('path', { class: `raw run-${i}`, d: path(line.raw) }),
      s('path', { class: `curve run-${i} dash-${i}`, d: path(line.mean) }),
      xs.length === 1 && known(line.mean[0]) && s('circle', { class: `dot run-${i}`, cx: x(xs[0]), cy: y(line.mean[0]), r: 3 }),
    ];
  });
  const last = names.map((name) => `${name} ${num(curves.lines[name].mean.findLast(known), 3)}`).join(', ');
  return h('figure', { class: 'panel' },
    h('figcaption', {}, title, names.length > 1 && h('span', { class: 'legend' }, names.map((name, i) => h('span', {}, h('i', { class: `swatch line run-${i} dash-${i}` }), name)))),
    s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${title} over ${xs.length} logged steps; at the end: ${last}` },
      ticks.map((v) => [
        s('line', { class: 'grid', x1: left, x2: width - right, y1: y(v), y2: y(v) }),
        s('text', { class: 'tick', x: left - 5, y: y(v) + 3.5, 'text-anchor': 'end' }, Number(v.toFixed(3))),
      ]),
      [xs[0], xs.at(-1)].filter((v, i, all) => all.indexOf(v) === i).map((v, i) => s('text', { class: 'tick', x: x(v), y: height - 6, 'text-anchor': i ? 'end' : 'start' }, `step ${v}`)),
      lines));
}

function bandPath(xs, line, x, y) {
  const at = xs.map((_, i) => i).filter((i) => known(line.mean[i]) && known(line.std[i]));
  const up = at.map((i) => `${x(xs[i]).toFixed(1)} ${y(line.mean[i] + line.std[i]).toFixed(1)}`);
  const down = at.reverse().map((i) => `${x(xs[i]).toFixed(1)} ${y(line.mean[i] - line.std[i]).toFixed(1)}`);
  return up.length ? `M${[...up, ...down].join('L')}Z` : '';
}

function niceTicks(low, high) {
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((v) => v >= raw * 0.999);
  const ticks = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) ticks.push(v);
  return ticks;
}
