// The current view. It is stored in the address, so that every view and episode has a link.

const DEFAULTS = { run: 'all', q: '', outcome: '', kind: '', show: '', tool: '', turns: '', gold: '', step: '', vs: '', diff: '', sort: '', e: '' };

let place = { view: 'overview', params: {} };

function readPlace() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const view = ['overview', 'training', 'episodes'].includes(path) ? path : 'overview';
  place = { view, params: { ...Object.fromEntries(new URLSearchParams(query || '')) } };
}

/** The address of a view. */
function linkTo(view, params = {}) {
  const kept = Object.entries(params).filter(([name, value]) => known(value) && value !== '' && value !== DEFAULTS[name]);
  const query = new URLSearchParams(kept).toString();
  return `#/${view}${query ? `?${query}` : ''}`;
}

/** Goes to a view. With `replace`, it adds no entry to the history, as while typing. */
function go(view, params, replace = false) {
  const link = linkTo(view, params);
  if (link === location.hash) return;
  if (replace) {
    history.replaceState(null, '', link);
    draw();
  } else {
    location.hash = link;
    readPlace(); // at once, because keys may come before the event
  }
}

const filtersOf = (params) => ({ ...DEFAULTS, ...params });

const TOOLS = {
  look: ['looked', (row) => row.looks > 0],
  nolook: ['did not look', (row) => !row.looks],
  ground: ['grounded', (row) => row.grounds > 0],
  noground: ['did not ground', (row) => !row.grounds],
  none: ['used no tool', (row) => !row.looks && !row.grounds],
  bad: ['malformed turns', (row) => row.bad > 0],
  toolfail: ['a tool failed', (row) => row.toolfail > 0],
};
const GOLD = {
  start: ['shown at the start', (row) => row.first === true],
  later: ['found later', (row) => row.first === false && row.grounded],
  never: ['never shown', (row) => row.grounded === false],
};
const DIFFS = {
  ab: ['A right, B wrong', true, false],
  ba: ['A wrong, B right', false, true],
  both: ['both right', true, true],
  neither: ['both wrong', false, false],
};
const SORTS = {
  turns: ['most turns', (a, b) => b.turns - a.turns],
  reward: ['highest reward', (a, b) => (b.reward ?? -9) - (a.reward ?? -9)],
  slow: ['slowest', (a, b) => (b.seconds ?? 0) - (a.seconds ?? 0)],
  tokens: ['most tokens', (a, b) => (b.tokens ?? 0) - (a.tokens ?? 0)],
};

function differs(row, f) {
  if (!DIFFS[f.diff] || f.vs === '') return true;
  const twin = twinOf(row, f.vs);
  const [, mine, theirs] = DIFFS[f.diff];
  return row.correct === mine && twin !== undefined && twin.correct === theirs;
}

/** The filtered episodes, in order. */
function select(f) {
  const words = f.q.toLowerCase().split(/\s+/).filter(Boolean);
  const found = DATA.episodes.filter((row) => {
    const question = DATA.questions[row.q];
    return (
      (f.run === 'all' || row.run === Number(f.run)) &&
      (!f.outcome || outcomeOf(row) === f.outcome) &&
      (!f.kind || question.kind === f.kind) &&
      (!f.show || question.show === f.show) &&
      (!f.turns || row.turns === Number(f.turns)) &&
      (!f.step || row.step === Number(f.step)) &&
      (!TOOLS[f.tool] || TOOLS[f.tool][1](row)) &&
      (!GOLD[f.gold] || GOLD[f.gold][1](row)) &&
      differs(row, f) &&
      words.every((word) => (texts[row.i] ?? '').includes(word))
    );
  });
  if (SORTS[f.sort]) found.sort(SORTS[f.sort][1]);
  return found;
}
