// Tabs, keys, the theme, and drawing the view in the address.

const THEMES = ['auto', 'light', 'dark'];
let theme = 'auto';

function setTheme(name) {
  theme = name;
  document.documentElement.dataset.theme = name;
  $('theme').textContent = `Theme: ${name}`;
  try {
    localStorage.setItem('longvideo-report-theme', name);
  } catch { /* a page opened from a file may have no storage */ }
}

function storedTheme() {
  try {
    return localStorage.getItem('longvideo-report-theme');
  } catch {
    return null;
  }
}

function drawTabs() {
  const tabs = [['overview', 'Overview'], ...(DATA.trainings.length ? [['training', 'Training']] : []), ...(DATA.episodes.length ? [['episodes', 'Episodes']] : [])];
  fill($('tabs'), ...tabs.map(([view, name]) => h('a', { href: linkTo(view, {}), 'aria-current': place.view === view ? 'page' : null }, name)));
}

async function draw() {
  readPlace();
  if (place.view === 'training' && !DATA.trainings.length) place.view = 'overview';
  drawTabs();
  document.body.dataset.view = place.view;
  document.title = DATA.title;
  if (place.view === 'episodes') await drawEpisodes();
  else if (place.view === 'training') await drawTraining();
  else drawOverview();
  if (place.view !== 'episodes') hooks = null;
  document.body.dataset.ready = 'true';
}

const KEYS = [
  ['J or →', 'next episode'], ['K or ←', 'previous episode'], ['/', 'search'], ['Esc', 'leave the search; back to the list; close'], ['?', 'these keys'],
  ['← →', 'in an enlarged frame: the frame before or after'],
];

function showKeys() {
  const dialog = $('keys');
  fill(dialog, h('h2', { id: 'keys-title' }, 'Keys'),
    h('dl', {}, KEYS.map(([key, about]) => h('div', {}, h('dt', {}, h('kbd', {}, key)), h('dd', {}, about)))),
    h('button', { type: 'button', onclick: () => dialog.close() }, 'Close'));
  dialog.showModal();
}

function onEscape(target) {
  if (target.matches('input, select')) target.blur();
  else if (place.view === 'episodes' && place.params.e) go('episodes', { ...place.params, e: '' });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.key === 'Escape') return onEscape(event.target);
  if (event.target.matches('input, select, textarea')) return undefined;
  const episodes = place.view === 'episodes';
  const actions = {
    j: () => (episodes ? move(1) : go('episodes', {})), ArrowRight: () => episodes && !scrolls(event.target) && move(1),
    k: () => episodes && move(-1), ArrowLeft: () => episodes && !scrolls(event.target) && move(-1),
    '/': async () => {
      event.preventDefault();
      if (!episodes) go('episodes', {}, true);
      $('f-q')?.focus();
    },
    '?': showKeys,
  };
  return actions[event.key]?.();
}

const scrolls = (element) => element.closest('.scroll, .cards, .whole') !== null;

async function start() {
  setTheme(THEMES.includes(storedTheme()) ? storedTheme() : 'auto');
  $('theme').addEventListener('click', () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));
  $('help').addEventListener('click', showKeys);
  await loadIndex();
  addEventListener('hashchange', draw);
  addEventListener('keydown', onKey);
  addEventListener('resize', () => hooks && redrawRows());
  await draw();
  performance.mark('drawn');
  // Prepare the search in the background, so that it is quick later.
  (window.requestIdleCallback || setTimeout)(() => indexTexts());
}

start().catch((error) => {
  const old = typeof DecompressionStream === 'undefined';
  fill($('main'), h('p', { class: 'loading' }, old ? 'This browser is too old for this page: it cannot unpack gzip.' : `The page cannot be drawn: ${error.message}`));
  throw error;
});
