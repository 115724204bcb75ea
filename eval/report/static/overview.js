// The first view: runs side by side, pairs, groups, histograms, calibration.

const runName = (i) => h('span', { class: 'run-name' }, h('i', { class: `swatch run-${i % 8}` }), h('bdi', {}, DATA.runs[i].name));

/** A table with a hint if it is wider than the screen. */
function wide(name, ...content) {
  const box = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `Table: ${name}, can be scrolled sideways`, onscroll: () => sayWider(box) }, ...content);
  const whole = h('div', { class: 'wide' }, box, h('p', { class: 'wider', 'aria-hidden': 'true', hidden: true }, 'Scroll sideways for more columns →'));
  new ResizeObserver(() => sayWider(box)).observe(box);
  return whole;
}

function sayWider(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  box.classList.toggle('cut', hidden > 1 && box.scrollLeft < hidden - 1);
  if (box.nextSibling) box.nextSibling.hidden = hidden <= 1;
}

function section(title, note, ...content) {
  return h('section', {}, h('h2', {}, title), note && h('p', { class: 'note' }, note), ...content);
}

const head = (texts, numbers) => h('thead', {}, h('tr', {}, texts.map((name) => h('th', { scope: 'col' }, name)), numbers.map((name) => (name ? h('th', { scope: 'col', class: 'n' }, name) : h('td', {})))));

function drawOverview() {
  const played = DATA.runs.map((_, i) => i).filter((i) => DATA.runs[i].summary.n_finished);
  const main = h('div', { class: 'page' },
    DATA.headline && h('p', { class: 'headline', dir: 'auto' }, DATA.headline),
    runsTable(),
    DATA.pairs.length > 0 && pairsTable(),
    DATA.trainings.filter((i) => DATA.runs[i].curves).map((i) => section(`Training: ${DATA.runs[i].name}`, curveNote(i), curvePanels(DATA.runs[i].curves))),
    played.length > 0 && [partsSection(played), calibrationSection(played), histogramSection(played)],
    notesSection());
  fill($('main'), main);
}

function curveNote(i) {
  return `Faint: as logged. Strong: centred mean over ${plural(DATA.runs[i].curves.smooth, 'step')}; band: one standard deviation of the episodes’ rewards. Tool use: calls per episode, and malformed turns as a share of all.`;
}

const COLUMNS = [
  ['Accuracy', (run) => pct(run.summary.accuracy)],
  ['95% CI', (run) => interval(run.summary.accuracy_ci95)],
  ['', (run, i) => intervalPlot([{ run: i, value: run.summary.accuracy, ci: run.summary.accuracy_ci95 }], 120)],
  ['Grounding', (run) => pct(run.summary.grounding_accuracy), 'The gold clip was shown.'],
  ['First clip', (run) => pct(run.summary.grounding_accuracy_first), 'The gold clip was shown at the start.'],
  ['Turns', (run) => num(run.summary.mean_turns)],
  ['Calls', (run) => num(run.cost.tool_calls), 'Tool calls of the master, per episode.'],
  ['Tokens', (run) => whole(run.cost.tokens), 'Sampled tokens per episode.'],
  ['Time', (run) => seconds(run.cost.seconds), 'Model and tools, per episode.'],
  ['Cost', (run) => (known(run.cost.usd) ? `$${run.cost.usd.toPrecision(2)}` : DASH), 'US dollars per episode, where recorded.'],
  ['Malformed', (run) => pct(run.summary.malformed_rate), 'Share of turns.'],
  ['Failed', (run) => whole(run.summary.n_failed), 'Episodes in which a tool or the policy broke down; never counted as wrong.'],
  ['n', (run) => whole(run.summary.n_scored), 'Episodes with a gold answer that did not fail.'],
];

function runsTable() {
  const shown = COLUMNS.filter(([name, value]) => !['Tokens', 'Cost'].includes(name) || DATA.runs.some((run) => run.summary.n_finished && value(run) !== DASH));
  const cells = (run, i) => shown.map(([, value]) => h('td', { class: 'n' }, run.summary.n_finished ? value(run, i) : DASH));
  return section('Runs', `Intervals are clustered by video; with one video there is none. A failed episode counts as failed and in nothing else.`,
    wide('runs', h('table', { class: 'runs' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Run'), shown.map(([name, , about]) => (name ? h('th', { scope: 'col', class: 'n', title: about }, name) : h('td', {}))))),
      h('tbody', {}, DATA.runs.map((run, i) => h('tr', {},
        h('th', { scope: 'row' }, h('a', { href: linkTo('episodes', { run: i }) }, runName(i)), marks(run)),
        cells(run, i)))))),
    DATA.runs.map((run, i) => details(run, i)));
}

function marks(run) {
  return [
    run.kind === 'training' && h('span', { class: 'badge' }, 'training'),
    run.oracle && h('span', { class: 'badge warn', title: 'Its grounding agent is given the gold clip: an upper bound.' }, 'oracle'),
    run.leaky && h('span', { class: 'badge warn', title: 'Its agents saw gold annotations.' }, 'leaky'),
  ];
}

function details(run, i) {
  const value = (v) => (Array.isArray(v) ? v.map((x) => (typeof x === 'number' ? num(x, 3) : String(x))).join(' – ') : typeof v === 'number' && !Number.isInteger(v) ? num(v, 4) : String(v));
  const entries = [...Object.entries(run.config), ...Object.entries(run.saved).filter(([key]) => !(key in run.config))];
  return h('details', { class: 'config' },
    h('summary', {}, 'Options and totals of ', h('bdi', {}, run.name)),
    h('dl', {}, [['policy', run.policy], ...entries].map(([key, v]) => h('div', {}, h('dt', {}, key.replaceAll('_', ' ')), h('dd', { dir: 'auto' }, value(v))))));
}

function pairsTable() {
  const cell = (pair, diff, n) => h('td', { class: 'n' }, h('a', { href: linkTo('episodes', { run: pair.a, vs: pair.b, diff }), title: `See these ${n} questions` }, n));
  const several = DATA.pairs.length > 1;
  const points = (ends) => (ends ? `${signed(100 * ends[0], 1)} to ${signed(100 * ends[1], 1)}` : DASH);
  const about = several ? ` p is Holm’s, for ${DATA.pairs.length} comparisons.` : '';
  return section('Pairs', `Question by question. Interval and p are clustered by video.${about} The counts lead to the questions.`,
    wide('pairs', h('table', {}, head(['A', 'B'], ['n', 'videos', 'both right', 'A only', 'B only', 'neither', 'B − A', '95% CI', several ? 'p (Holm)' : 'p']),
      h('tbody', {}, DATA.pairs.map((pair) => h('tr', {},
        h('th', { scope: 'row' }, runName(pair.a)), h('td', {}, runName(pair.b)),
        h('td', { class: 'n' }, pair.n), h('td', { class: 'n' }, pair.n_videos),
        cell(pair, 'both', pair.both_right), cell(pair, 'ab', pair.a_only), cell(pair, 'ba', pair.b_only), cell(pair, 'neither', pair.neither),
        h('td', { class: 'n' }, `${signed(100 * pair.difference, 1)} pp`), h('td', { class: 'n' }, points(pair.difference_ci95)),
        h('td', { class: 'n' }, pair.p_holm === null ? DASH : pValue(pair.p_holm))))))),
    notesOf(DATA.pairs.map((pair) => [
      `${DATA.runs[pair.a].name} and ${DATA.runs[pair.b].name}`,
      [pair.left_out && `${pair.left_out} episodes failed or unmatched, left out`, pair.differ.length && `the runs differ in ${pair.differ.join('; ')}`, ...pair.lines].filter(Boolean)])));
}

/** Notes with the runs that they are about. Equal notes are shown once. */
function notesOf(items) {
  const about = new Map();
  items.forEach(([name, notes]) => new Set(notes).forEach((note) => about.set(note, [...(about.get(note) || []), name])));
  if (!about.size) return null;
  const line = ([note, names]) => h('li', { dir: 'auto' }, items.length > 1 && names.length === items.length ? `All: ${note}` : `${names.join('; ')}: ${note}`, /[.!?]$/.test(note) ? null : '.');
  return h('ul', { class: 'notes' }, [...about].map(line));
}

const PART_FILTERS = { 'question kind': 'kind', show: 'show', turns: 'turns', 'gold clip': 'gold', 'evidence asked for': 'tool' };
const PART_VALUES = { 'shown at the start': 'start', 'found later': 'later', 'never shown': 'never', neither: 'none' };

function partLink(part, value, run) {
  const filter = PART_FILTERS[part];
  if (filter === 'tool' && value !== 'neither') return null;
  return linkTo('episodes', { run, [filter]: ['gold', 'tool'].includes(filter) ? PART_VALUES[value] : value });
}

/** Useful groups only. Groups with one value, and values with few questions, are named below. */
function partsSection(played) {
  const names = Object.keys(DATA.runs[played[0]].parts);
  const hidden = [];
  const tables = names.map((name) => partTable(name, played, hidden)).filter(Boolean);
  if (!tables.length && !hidden.length) return null;
  return section('Accuracy by part', null, tables.length > 0 && legend(played), tables.length > 0 && h('div', { class: 'parts' }, tables),
    hidden.length > 0 && h('ul', { class: 'notes', 'aria-label': 'Not shown' }, hidden.map((one) => h('li', {}, `Not shown: ${one}.`))));
}

const legend = (played) => (played.length > 1 ? h('p', { class: 'legend' }, played.map(runName)) : null);

function partTable(part, played, hidden) {
  const byRun = new Map(played.map((i) => [i, new Map(DATA.runs[i].parts[part].map((row) => [row.label, row]))]));
  const labels = [...new Set(played.flatMap((i) => DATA.runs[i].parts[part].map((row) => row.label)))];
  if (part === 'turns') labels.sort((a, b) => a - b);
  const spoken = (name) => name.replaceAll('_', ' ');
  const enough = labels.filter((name) => played.some((i) => byRun.get(i).get(name)?.n >= DATA.fewest));
  const few = labels.filter((name) => !enough.includes(name)).map(spoken);
  if (labels.length === 1) hidden.push(`by ${part}: one value, ${spoken(labels[0])}`);
  else if (enough.length < 2 && labels.length) hidden.push(`by ${part}: fewer than two values of ${DATA.fewest} questions or more`);
  else if (few.length) hidden.push(`by ${part}, fewer than ${DATA.fewest} questions: ${few.join(', ')}`);
  if (labels.length < 2 || enough.length < 2) return null;
  return wide(`accuracy by ${part}`, h('table', { class: 'part' },
    head([`By ${part}`], ['n', 'accuracy', '95% CI', '']),
    h('tbody', {}, enough.map((name) => partRow(part, name, played.map((run) => ({ run, row: byRun.get(run).get(name) })))))));
}

function partRow(part, name, found) {
  const shown = found.map(({ run, row }) => ({ run, row: row?.n >= DATA.fewest ? row : undefined }));
  const count = ({ run, row }) => {
    const link = row && partLink(part, name, run);
    return h('div', {}, link ? h('a', { href: link }, whole(row.n)) : row ? whole(row.n) : DASH);
  };
  return h('tr', {},
    h('th', { scope: 'row' }, h('bdi', {}, name.replaceAll('_', ' '))),
    h('td', { class: 'n stack' }, found.map(count)),
    h('td', { class: 'n stack' }, shown.map(({ row }) => h('div', {}, row ? pct(row.accuracy) : DASH))),
    h('td', { class: 'n stack' }, shown.map(({ row }) => h('div', {}, interval(row?.ci)))),
    h('td', {}, intervalPlot(shown.map(({ run, row }) => ({ run, value: row?.accuracy, ci: row?.ci })), 90)));
}

function calibrationSection(played) {
  const rows = played.flatMap((i) => DATA.runs[i].calibration.map((row) => [i, row]));
  if (!rows.length) return null;
  const needed = { true: 'needed', false: 'not needed', null: 'unknown' };
  const rank = (row) => [true, false, null].indexOf(row.needed);
  return section('Did the agent use tools when they were needed?',
    'Grounding has to be asked for when the first clip is wrong. Whether a question must be looked at is known for mini alone. “On the gold clip”: looks that could see it.',
    wide('tools and need', h('table', {},
      h('thead', {}, h('tr', {}, [['Tool'], ['Need'], ['When'], ['Run'], ['n', 1], ['Asked', 1], ['95% CI', 1], ['', 1], ['Right if asked', 1], ['Right if not', 1], ['On the gold clip', 1]].map(([name, right]) => (name ? h('th', { scope: 'col', class: right ? 'n' : '' }, name) : h('td', {}))))),
      h('tbody', {}, rows.sort(([i, a], [j, b]) => a.tool.localeCompare(b.tool) || rank(a) - rank(b) || i - j).map(([i, row]) => h('tr', {},
        h('th', { scope: 'row' }, row.tool), h('td', {}, h('span', { class: `need need-${row.needed}` }, needed[row.needed])), h('td', { class: 'why' }, row.why),
        h('td', {}, runName(i)), h('td', { class: 'n' }, whole(row.n)), h('td', { class: 'n' }, pct(row.asked)), h('td', { class: 'n' }, interval(row.ci)),
        h('td', {}, intervalPlot([{ run: i, value: row.asked, ci: row.ci }], 110)),
        h('td', { class: 'n' }, pct(row.right_if_asked)), h('td', { class: 'n' }, pct(row.right_if_not)), h('td', { class: 'n' }, pct(row.on_gold))))))));
}

function histogramSection(played) {
  const names = Object.keys(DATA.runs[played[0]].histograms);
  const figures = names.map((name) => histogram(name[0].toUpperCase() + name.slice(1), played.map((run) => ({ run, counts: DATA.runs[run].histograms[name] || [] }))));
  return section('Turns and tools', 'Shares of the episodes of each run.', legend(played), h('div', { class: 'histograms' }, figures));
}

function notesSection() {
  const said = new Set(DATA.pairs.flatMap((pair) => pair.lines));
  const items = DATA.runs.map((run) => [run.name, run.notes.filter((note) => !said.has(note))]);
  const left = DATA.frames_left_out ? `${DATA.frames_left_out} frames found no room in this page (--max-frames).` : null;
  const notes = notesOf(items);
  if (!notes && !left) return null;
  return section('Notes', null, notes, left && h('p', { class: 'note' }, left));
}
