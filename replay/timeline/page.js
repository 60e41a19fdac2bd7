'use strict';
// Draws the timeline of a migration log on a canvas. The program that wrote this page put the data
// into the element with the id "data"; package timeline of the module migrationlog describes it.
// Text from the log is set with textContent and fillText only, so it cannot become markup.

// ---- The data ----

const data = JSON.parse(document.getElementById('data').textContent);
const COMPLETE = 6; // the number of the last phase
const IN_FLIGHT = 'in_flight', IN_DOUBT = 'in_doubt';

// All times of a move are milliseconds after data.t0.
const moves = data.moves.map((list, index) => {
  const [id, number, vshard, source, target, group, budgetUS, outcome, flags, reason, compensations, from, to, firstSeq, startedAt, steps] = list;
  const move = {
    index, number, vshard, source, target, group, budgetUS, from, to,
    id: id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    digits: id,
    outcome: data.outcomes[outcome],
    beginningLost: (flags & 1) !== 0, endLost: (flags & 2) !== 0, inDoubt: (flags & 4) !== 0,
    reason: reason < 0 ? '' : data.reasons[reason],
    compensations: [], findings: [], lanes: [],
  };
  for (let i = 0; i < compensations.length; i += 4) {
    const [kind, groupID, peer, shard] = compensations.slice(i, i + 4);
    const name = data.compensations[kind];
    move.compensations.push(name + (name === 'RemoveGhostStub' ? `(vshard ${shard})` : `(group ${groupID}, node ${peer})`));
  }
  move.steps = readSteps(steps, firstSeq, startedAt);
  move.phase = move.steps.reduce((last, s) => s.phase || last, 0);
  move.bars = barsOf(move);
  return move;
});
const lanes = data.lanes.map(([label, indexes], index) => {
  const lane = {index, label, moves: indexes.map((i) => moves[i])};
  lane.inDoubt = lane.moves.filter((m) => m.inDoubt);
  lane.moves.forEach((m) => m.lanes.push(lane));
  return lane;
});
for (const [rule, severity, message, places] of data.findings) {
  for (let i = 0; i < places.length; i += 2) {
    moves[places[i]].findings.push({rule, severity, message, at: places[i + 1]});
  }
}
const losses = data.lost.map(([first, last, from, to, all, indexes]) => ({first, last, from, to, all, moves: new Set(indexes)}));
const idDigits = uniqueEnd(moves.map((m) => m.digits));

// readSteps decodes the records of a move: code, difference of seq, difference of time, and a detail
// if the code has the bit for it.
function readSteps(list, seq, at) {
  const steps = [];
  for (let i = 0; i < list.length;) {
    const code = list[i], low = code % 16;
    seq = typeof seq === 'number' && typeof list[i + 1] === 'number' ? seq + list[i + 1] : '?';
    at += list[i + 2];
    const isCheckpoint = low <= COMPLETE;
    const step = {seq, at, phase: isCheckpoint ? low : 0, kind: isCheckpoint ? data.kinds[0] : data.kinds[low - COMPLETE], attempt: Math.floor(code / 32)};
    i += 3;
    if (code & 16) step.detail = list[i++];
    steps.push(step);
  }
  // A stay ends with the next record of the move. A raised epoch and an unknown event end none.
  let open = null;
  for (const step of steps) {
    if (step.kind === 'epoch_raised' || step.kind === 'unknown') continue;
    if (open) open.stayed = step.at - open.at;
    open = step.phase ? step : null;
  }
  if (open) open.open = true;
  return steps;
}

// barsOf returns the time after each checkpoint before Complete. The clock may have gone back; a bar
// never begins before the end of the bar before it.
function barsOf(move) {
  const bars = [];
  let now = move.from, open = null;
  for (const step of move.steps) {
    now = Math.max(now, step.at);
    if (step.phase) {
      if (open) open.to = now;
      open = null;
      if (step.phase !== COMPLETE) bars.push(open = {phase: step.phase, attempt: step.attempt, from: now, to: now});
    } else if (open && (step.kind === 'abort' || step.kind === 'remove')) {
      open.to = now;
      open = null;
    }
  }
  if (open) open.to = Math.max(open.from, move.to);
  return bars;
}

// uniqueEnd returns the number of last digits in which the ids differ, at least 6.
function uniqueEnd(ids) {
  const all = new Set(ids);
  for (let n = 6; ; n++) {
    if (n >= 32 || new Set([...all].map((id) => id.slice(-n))).size === all.size) return n;
  }
}

// ---- Words ----

const phaseName = (p) => data.phases[p - 1] || '?';
const shortID = (move) => move.digits.slice(-idDigits);
const orUnknown = (v) => (v === null ? '?' : String(v));
const nodesOf = (move) => `${orUnknown(move.source)} -> ${orUnknown(move.target)}`;

// span returns a duration as the tool prints it, with about three digits: 978ms, 2.01s, 1m48s, 5d20h.
function span(ms) {
  if (ms < 0) return '-' + span(-ms);
  const s = Math.floor(ms / 1000), whole = Math.floor;
  if (ms === 0) return '0';
  if (ms < 1000) return `${ms}ms`;
  if (s < 10) return `${s}.${two(whole(ms / 10) % 100)}s`;
  if (s < 60) return `${s}.${whole(ms / 100) % 10}s`;
  if (s < 3600) return `${whole(s / 60)}m${s % 60}s`;
  if (s < 86400) return `${whole(s / 3600)}h${whole(s / 60) % 60}m`;
  return s < 8640000 ? `${whole(s / 86400)}d${whole(s / 3600) % 24}h` : `${whole(s / 86400)}d`;
}

function zoneAt(at) {
  let zone = data.zones[0];
  for (const z of data.zones) if (z[0] <= at) zone = z;
  return zone;
}

// wall returns the parts of a time in the time zone of the page, as a date in UTC.
const wall = (at) => new Date(data.t0 + at + zoneAt(at)[1] * 1000);
const two = (n) => String(n).padStart(2, '0');
const dateOf = (at) => wall(at).toISOString().slice(0, 10);
const timeOf = (at) => wall(at).toISOString().slice(11, 23);
const secondOf = (at) => wall(at).toISOString().slice(11, 19);

function outcomeOf(move) {
  const phase = phaseName(move.phase), took = span(Math.max(0, move.to - move.from));
  if (move.outcome === IN_FLIGHT && move.endLost) return `its end is lost, after ${phase}`;
  if (move.outcome === IN_FLIGHT) {
    const last = move.steps.findLast((s) => s.phase);
    if (move.inDoubt) return `in doubt: it was at ${phase}, and events after that are lost`;
    return `in flight at ${phase} for ${span(Math.max(0, data.end - (last ? last.at : move.from)))}`;
  }
  if (move.outcome === 'aborted') return `aborted at ${phase} after ${took}`;
  if (move.outcome === 'removed_unfinished') return `removed at ${phase} after ${took}`;
  return `done in ${took}` + (move.outcome === 'removed' ? ' and removed' : '');
}

function detailOf(step, move) {
  if (typeof step.detail === 'string' && !/^\d+$/.test(step.detail)) return step.detail;
  switch (step.kind) {
    case 'compensated': return `step ${step.detail}: ${move.compensations[step.detail] || '?'}`;
    case 'epoch_raised': return `epoch ${step.detail}`;
    case 'unknown': return 'an event of a newer version';
    case 'abort': case 'abort_begun': case 'remove': return ''; // the reason stands above
  }
  switch (phaseName(step.phase)) {
    case 'AddLearner': return `node ${nodesOf(move)}, budget ${move.budgetUS === null ? '?' : move.budgetUS / 1000 + 'ms'}`;
    case 'CatchUp': return `learner at log index ${step.detail}`;
    case 'PromoteLearner': return `node ${orUnknown(move.target)} votes in group ${orUnknown(move.group)}`;
    case 'LeadershipTransfer': return `to node ${orUnknown(move.target)}`;
    case 'Cutover': return `node ${orUnknown(move.target)} leads`;
    case 'Complete': return `paused ${step.detail / 1000}ms, stub`;
  }
  return '';
}

// stepName returns the step in words, with the number of the try if it is not the first.
function stepName(step) {
  if (!step.phase) return step.kind;
  return phaseName(step.phase) + (step.attempt > 0 ? `, try ${step.attempt + 1}` : '');
}

// ---- The state of the view ----

const minRange = 4; // milliseconds
const everything = () => {
  const pad = Math.max(1, (data.to - data.from) * 0.005);
  return {from: data.from - pad, to: Math.max(data.to, data.from + minRange) + pad};
};
const view = {...everything(), filter: '', selected: null, hovered: null, storyOpen: false};
let shown = {moves: new Set(moves), lanes: lanes.slice()}; // what the filter selects

const byID = (id) => document.getElementById(id);
const canvas = byID('picture'), context = canvas.getContext('2d');
const box = byID('view'), tooltip = byID('tooltip'), story = byID('story');

// ---- The filter ----

// parseFilter returns a function that reports whether a move passes, or throws an error for people.
function parseFilter(text) {
  const tests = text.trim().split(/\s+/).filter(Boolean).map((term) => {
    const at = term.indexOf(':');
    if (at < 0) {
      const part = term.toLowerCase().replaceAll('-', '');
      if (!/^[0-9a-f]+$/.test(part)) throw new Error(`"${term}" is not a part of an id, and has no colon`);
      return (m) => m.digits.includes(part);
    }
    const key = term.slice(0, at).toLowerCase(), values = term.slice(at + 1).toLowerCase().split(',').filter(Boolean);
    if (values.length === 0) return () => true; // still being typed
    switch (key) {
      case 'vshard': return oneOf(values.map(rangeTest), (test, m) => test(m.vshard));
      case 'node': return oneOf(values.map(rangeTest), (test, m) => test(m.source) || test(m.target));
      case 'state': return oneOf(values.map(stateName), (s, m) => m.outcome === s || s === 'done' && m.outcome === 'removed' || s === IN_DOUBT && m.inDoubt);
      case 'phase': return oneOf(values, (p, m) => phaseName(m.phase).toLowerCase().startsWith(p));
      case 'rule': return oneOf(values, (r, m) => m.findings.some((f) => f.rule.startsWith(r)));
      case 'id': return oneOf(values, (v, m) => m.digits.includes(v.replaceAll('-', '')));
    }
    throw new Error(`"${key}:" is unknown. Use vshard: node: state: phase: rule: or id:`);
  });
  return (m) => tests.every((test) => test(m));
}

const oneOf = (values, test) => (m) => values.some((v) => test(v, m));

function rangeTest(text) {
  const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(text) || [];
  if (first === undefined) throw new Error(`"${text}" is not a number or a range such as 1-13`);
  const low = Number(first), high = last === undefined ? low : Number(last);
  return (n) => n !== null && Number(n) >= low && Number(n) <= high;
}

function stateName(text) {
  const name = {inflight: IN_FLIGHT, 'in-flight': IN_FLIGHT}[text] || text.replaceAll('-', '_');
  const names = [...data.outcomes, IN_DOUBT];
  if (!names.includes(name)) throw new Error(`state "${text}" is unknown. Use ${names.join(', ')}`);
  return name;
}

// setFilter shows only the moves that pass. A mistake in the text leaves the picture as it was.
function setFilter(text) {
  view.filter = text;
  const input = byID('filter'), count = byID('count');
  if (input.value !== text) input.value = text;
  try {
    const passes = parseFilter(text);
    shown.moves = new Set(moves.filter(passes));
    shown.lanes = lanes.filter((l) => l.moves.some((m) => shown.moves.has(m)));
    count.textContent = text.trim() ? `${shown.moves.size} of ${moves.length} moves` : '';
    input.setAttribute('aria-invalid', 'false');
  } catch (mistake) {
    count.textContent = mistake.message;
    input.setAttribute('aria-invalid', 'true');
  }
  refillTable();
  resize();
}

// ---- The picture ----

const axisHeight = 26, laneHeight = 20, barHeight = 12;
let width = 0, height = 0, labelWidth = 60, colors = {}, drawPending = false;

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ['back', 'panel', 'text', 'quiet', 'line', 'stripe', 'focus', 'done', 'aborted', 'doubt', 'finding', ...data.phases]) {
    colors[name] = style.getPropertyValue('--' + name).trim();
  }
  drawLegend();
}

const font = (size, weight = '') => `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;

// resize fits the canvas to its box and to the number of device pixels.
function resize() {
  const lanesHeight = axisHeight + shown.lanes.length * laneHeight + 6;
  width = box.clientWidth;
  height = box.clientHeight;
  byID('space').style.height = Math.max(0, lanesHeight - height) + 'px';
  width = box.clientWidth; // a scroll bar may have come or gone
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = height + 'px';
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = font(12);
  labelWidth = Math.ceil(Math.max(context.measureText(data.by).width, ...lanes.map((l) => context.measureText(shorten(l.label)).width))) + 20;
  draw();
}

const shorten = (label) => (label.length > 16 ? '\u2026' + label.slice(-15) : label);
const plotWidth = () => Math.max(10, width - labelWidth - 14);
const xOf = (at) => labelWidth + (at - view.from) / (view.to - view.from) * plotWidth();
const timeAt = (x) => view.from + (x - labelWidth) / plotWidth() * (view.to - view.from);
const yOf = (row) => axisHeight + row * laneHeight - box.scrollTop;

function draw() {
  if (drawPending) return;
  drawPending = true;
  requestAnimationFrame(() => {
    drawPending = false;
    drawNow();
  });
}

function drawNow() {
  context.fillStyle = colors.back;
  context.fillRect(0, 0, width, height);
  const first = Math.max(0, Math.floor(box.scrollTop / laneHeight));
  const last = Math.min(shown.lanes.length - 1, Math.ceil((box.scrollTop + height) / laneHeight));
  for (let row = first; row <= last; row++) drawStripe(row);
  const ticks = drawGrid();
  context.save();
  context.beginPath();
  context.rect(labelWidth, axisHeight, width - labelWidth, height - axisHeight);
  context.clip();
  for (let row = first; row <= last; row++) drawLane(row);
  context.restore();
  drawAxis(ticks);
  drawLabels(first, last);
  document.documentElement.dataset.drawn = String(shown.moves.size); // for tests
}

function drawStripe(row) {
  if (row % 2) return;
  context.fillStyle = colors.stripe;
  context.fillRect(0, yOf(row), width, laneHeight);
}

// tickStep returns a distance of ticks in milliseconds so that their labels do not touch.
function tickStep() {
  const least = (view.to - view.from) / plotWidth() * 100;
  const units = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 144e5, 216e5, 432e5];
  return units.find((u) => u >= least) || Math.ceil(least / 864e5) * 864e5;
}

function drawGrid() {
  const step = tickStep(), ticks = [];
  const offset = data.t0 + zoneAt(view.from)[1] * 1000; // ticks are at round times of the zone
  context.fillStyle = colors.line;
  for (let at = Math.ceil((view.from + offset) / step) * step - offset; at <= view.to; at += step) {
    const x = Math.round(xOf(at));
    if (x < labelWidth) continue;
    context.fillRect(x, axisHeight - 5, 1, height);
    ticks.push({at, x, step});
  }
  return ticks;
}

function drawAxis(ticks) {
  context.fillStyle = colors.back;
  context.fillRect(0, 0, width, axisHeight - 5);
  context.font = font(11.5);
  context.fillStyle = colors.quiet;
  context.textBaseline = 'alphabetic';
  for (const t of ticks) {
    const text = t.step >= 864e5 ? dateOf(t.at) : t.step >= 1000 ? secondOf(t.at) : timeOf(t.at);
    const half = context.measureText(text).width / 2;
    if (t.x - half < labelWidth - 8 || t.x + half > width) continue;
    context.textAlign = 'center';
    context.fillText(text, t.x, axisHeight - 10);
  }
  context.fillStyle = colors.line;
  context.fillRect(labelWidth, axisHeight - 1, width, 1);
}

function drawLabels(first, last) {
  context.font = font(12);
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  context.fillStyle = colors.back;
  context.fillRect(0, 0, labelWidth - 8, axisHeight);
  for (let row = first; row <= last; row++) {
    const y = yOf(row);
    if (y < axisHeight - laneHeight) continue;
    context.fillStyle = colors.text;
    if (y + laneHeight / 2 > axisHeight) context.fillText(shorten(shown.lanes[row].label), labelWidth - 10, y + laneHeight / 2 + 0.5);
  }
  context.fillStyle = colors.back;
  context.fillRect(0, 0, labelWidth - 8, axisHeight - 5);
  context.fillStyle = colors.quiet;
  context.fillText(data.by, labelWidth - 10, axisHeight - 14);
}

// firstVisible returns the index of the first move of a lane that ends at or after a time. The moves
// of a lane are in order and do not overlap.
function firstVisible(list, at) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].to < at) low = middle + 1; else high = middle;
  }
  return low;
}

function drawLane(row) {
  const lane = shown.lanes[row], y = yOf(row), margin = 10 * (view.to - view.from) / plotWidth();
  for (const loss of losses) {
    if (loss.all && !lane.moves.some((m) => loss.moves.has(m.index))) continue;
    drawLoss(loss, y);
  }
  const visible = [];
  for (let i = firstVisible(lane.moves, view.from - margin); i < lane.moves.length && lane.moves[i].from <= view.to + margin; i++) {
    visible.push(lane.moves[i]);
  }
  context.globalAlpha = 0.15;
  for (const m of visible) if (!shown.moves.has(m)) drawBars(m, y);
  context.globalAlpha = 1;
  let lastX = -Infinity;
  for (const m of visible) {
    if (!shown.moves.has(m)) continue;
    const x = xOf(m.to), isDone = m.outcome === 'done' || m.outcome === 'removed';
    if (isDone && x - lastX < 0.5) continue; // it would cover the same pixels
    drawBars(m, y);
    lastX = x;
  }
  for (const m of visible) if (shown.moves.has(m)) for (const f of m.findings) drawFinding(context, xOf(f.at), y);
  if (lane.inDoubt.some((m) => shown.moves.has(m))) drawEnd(context, {outcome: IN_FLIGHT, inDoubt: true}, xOf(data.end) + 7, y + 4); // beside an arrow
  for (const m of visible) if (m === view.selected || m === view.hovered) drawFrame(m, y);
}

function drawLoss(loss, y) {
  const from = xOf(loss.from), to = Math.max(xOf(loss.to), from + 3);
  if (to < labelWidth || from > width) return;
  context.save();
  context.globalAlpha = 0.22;
  context.fillStyle = colors.doubt;
  context.fillRect(from, y, to - from, laneHeight);
  context.restore();
  context.fillStyle = colors.doubt;
  context.font = font(11, 'bold');
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  if (to - from > 14) context.fillText('?', Math.min(Math.max((from + to) / 2, labelWidth + 8), width - 8), y + laneHeight / 2);
}

function drawBars(m, y) {
  const top = y + (laneHeight - barHeight) / 2;
  const start = xOf(m.from), end = Math.max(xOf(m.to), start + 1.5);
  if (end - start < 2.5) { // too small for its phases
    const longest = m.bars.reduce((a, b) => (a && a.to - a.from >= b.to - b.from ? a : b), null);
    context.fillStyle = longest ? colors[phaseName(longest.phase)] : colors.done;
    context.fillRect(start, top, end - start, barHeight);
  } else {
    for (const b of m.bars) {
      context.fillStyle = colors[phaseName(b.phase)];
      context.fillRect(xOf(b.from), top, Math.max(xOf(b.to) - xOf(b.from), 0.5), barHeight);
    }
    for (const b of m.bars) if (b.attempt > 0) drawTry(b, top);
  }
  drawEnd(context, m, Math.max(xOf(m.to), start + 1.5), top);
}

// drawTry marks the beginning of a second or later try with a line, and its number if there is space.
function drawTry(bar, top) {
  const x = xOf(bar.from);
  context.fillStyle = colors.back;
  context.fillRect(x - 0.5, top - 2, 1.5, barHeight + 4);
  if (xOf(bar.to) - x < 12) return;
  context.font = font(10, 'bold');
  context.textAlign = 'left';
  context.textBaseline = 'middle';
  context.fillText(String(bar.attempt + 1), x + 4, top + barHeight / 2 + 0.5);
}

// drawEnd draws the end of a move, on the picture or in the legend.
function drawEnd(c, m, x, top) {
  const middle = top + barHeight / 2;
  if (m.outcome === IN_FLIGHT && (m.endLost || m.inDoubt)) {
    c.fillStyle = colors.doubt;
    c.font = font(13, 'bold');
    c.textAlign = 'left';
    c.textBaseline = 'middle';
    c.fillText('?', x + 1, middle + 0.5);
  } else if (m.outcome === IN_FLIGHT) {
    c.fillStyle = colors.done;
    c.beginPath();
    c.moveTo(x, top - 1);
    c.lineTo(x + 7, middle);
    c.lineTo(x, top + barHeight + 1);
    c.fill();
  } else if (m.outcome === 'aborted' || m.outcome === 'removed_unfinished') {
    c.strokeStyle = colors.aborted;
    c.lineWidth = 2;
    c.beginPath();
    c.moveTo(x - 3.5, middle - 5);
    c.lineTo(x + 3.5, middle + 5);
    c.moveTo(x + 3.5, middle - 5);
    c.lineTo(x - 3.5, middle + 5);
    c.stroke();
  } else {
    c.fillStyle = colors.done;
    c.fillRect(x - 0.5, top, 1.25, barHeight);
  }
}

// drawFinding draws the mark of a finding, which points at its time.
function drawFinding(c, x, top) {
  c.fillStyle = colors.finding;
  c.strokeStyle = colors.back;
  c.lineWidth = 1;
  c.beginPath();
  c.moveTo(x, top + 8);
  c.lineTo(x - 5, top);
  c.lineTo(x + 5, top);
  c.closePath();
  c.fill();
  c.stroke();
}

function drawFrame(m, y) {
  const x = xOf(m.from);
  context.strokeStyle = m === view.selected ? colors.focus : colors.text;
  context.lineWidth = m === view.selected ? 2 : 1;
  context.strokeRect(x - 2.5, y + 1.5, Math.max(xOf(m.to) - x, 1.5) + 5, laneHeight - 3);
}

// The legend is drawn with the same functions as the picture.
function drawLegend() {
  const list = byID('legend');
  list.replaceChildren();
  const samples = data.phases.slice(0, COMPLETE - 1).map((name) => [name, (c) => {
    c.fillStyle = colors[name];
    c.fillRect(0, 1, 16, barHeight);
  }]);
  samples.push(['second try', (c) => {
    c.fillStyle = colors.CatchUp;
    c.fillRect(0, 1, 16, barHeight);
    c.fillStyle = colors.back;
    c.fillRect(3, 0, 1.5, 14);
    c.font = font(10, 'bold');
    c.textBaseline = 'middle';
    c.fillText('2', 7, 7.5);
  }]);
  const end = (move) => (c) => drawEnd(c, move, 6, 1);
  samples.push(['done', end({outcome: 'done'})], ['aborted', end({outcome: 'aborted'})], ['in flight at the end', end({outcome: IN_FLIGHT})]);
  if (losses.length) samples.push(['lost events may belong here', end({outcome: IN_FLIGHT, inDoubt: true})]);
  if (data.findings.length) samples.push(['finding', (c) => drawFinding(c, 8, 3)]);
  for (const [name, paint] of samples) {
    const item = document.createElement('li'), sample = document.createElement('canvas');
    const ratio = window.devicePixelRatio || 1;
    sample.width = 16 * ratio;
    sample.height = 14 * ratio;
    sample.setAttribute('aria-hidden', 'true');
    const c = sample.getContext('2d');
    c.scale(ratio, ratio);
    paint(c);
    item.append(sample, name);
    list.append(item);
  }
}

// ---- The pointer ----

// moveAt returns the move at a position of the canvas, or null. A move that is thinner than the
// pointer is found next to it.
function moveAt(x, y) {
  const row = Math.floor((y - axisHeight + box.scrollTop) / laneHeight), lane = shown.lanes[row];
  if (!lane || y < axisHeight || x < labelWidth) return null;
  const reach = 5 * (view.to - view.from) / plotWidth(), at = timeAt(x);
  let best = null, bestDistance = Infinity;
  for (let i = firstVisible(lane.moves, at - reach); i < lane.moves.length && lane.moves[i].from <= at + reach; i++) {
    const m = lane.moves[i], distance = Math.max(m.from - at, at - m.to, 0);
    if (shown.moves.has(m) && distance < bestDistance) [best, bestDistance] = [m, distance];
  }
  return best;
}

function showTooltip(m, x, y) {
  tooltip.hidden = !m;
  if (!m) return;
  const lines = [`vshard ${orUnknown(m.vshard)}   node ${nodesOf(m)}   ${shortID(m)}`, outcomeOf(m), `${timeOf(m.from)} to ${timeOf(m.to)}`];
  if (m.reason) lines.push(JSON.stringify(m.reason.length > 200 ? m.reason.slice(0, 200) + '\u2026' : m.reason));
  const tries = m.steps.filter((s) => s.attempt > 0).length;
  if (tries) lines.push(tries === 1 ? 'tried again once' : `tried again ${tries} times`);
  for (const f of m.findings) lines.push(`${f.severity}: ${f.rule}`);
  tooltip.textContent = lines.join('\n');
  const left = x + 14 + tooltip.offsetWidth > width ? x - tooltip.offsetWidth - 10 : x + 14;
  const top = y + 14 + tooltip.offsetHeight > height ? y - tooltip.offsetHeight - 8 : y + 14;
  tooltip.style.left = Math.max(2, left) + 'px';
  tooltip.style.top = Math.max(2, top) + box.scrollTop + 'px';
}

let drag = null; // {x, y, from, to, scrollTop, moved}

function position(event) {
  const area = canvas.getBoundingClientRect();
  return {x: event.clientX - area.left, y: event.clientY - area.top};
}

canvas.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  const {x, y} = position(event);
  drag = {x, y, from: view.from, to: view.to, scrollTop: box.scrollTop, moved: false};
  canvas.setPointerCapture(event.pointerId);
});

canvas.addEventListener('pointermove', (event) => {
  const {x, y} = position(event);
  if (drag && (drag.moved || Math.hypot(x - drag.x, y - drag.y) > 4)) {
    drag.moved = true;
    const shift = (drag.x - x) / plotWidth() * (drag.to - drag.from);
    setRange(drag.from + shift, drag.to + shift);
    box.scrollTop = drag.scrollTop + drag.y - y;
    canvas.classList.add('dragged');
    return;
  }
  const m = moveAt(x, y);
  if (m !== view.hovered) {
    view.hovered = m;
    draw();
  }
  canvas.classList.toggle('onmove', m !== null);
  showTooltip(m, x, y);
});

canvas.addEventListener('pointerup', (event) => {
  const wasDragged = drag && drag.moved;
  drag = null;
  canvas.classList.remove('dragged');
  if (wasDragged || event.button !== 0) return;
  const {x, y} = position(event), m = moveAt(x, y);
  if (m) select(m, true); else closeStory();
});

canvas.addEventListener('pointercancel', () => { drag = null; });

canvas.addEventListener('pointerleave', () => {
  view.hovered = null;
  showTooltip(null);
  draw();
});

canvas.addEventListener('wheel', (event) => {
  const {x} = position(event);
  if (x < labelWidth) return; // over the labels the wheel scrolls the lanes
  event.preventDefault();
  const pixels = event.deltaMode === 1 ? 30 : 1; // lines or pixels
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    const shift = (event.deltaX || event.deltaY) * pixels / plotWidth() * (view.to - view.from);
    setRange(view.from + shift, view.to + shift);
  } else {
    zoom(1.0015 ** (event.deltaY * pixels), timeAt(x));
  }
}, {passive: false});

box.addEventListener('scroll', draw);

// ---- The range ----

// setRange shows a range of time. It keeps the length within limits, and a part of the history in
// view.
function setRange(from, to) {
  const all = everything();
  const length = Math.min(Math.max(to - from, minRange), all.to - all.from);
  const middle = (from + to) / 2;
  showTooltip(null);
  view.from = Math.min(Math.max(middle - length / 2, all.from), all.to - length);
  view.to = view.from + length;
  draw();
  rememberView();
}

// zoom multiplies the length of the range, and keeps the place of one time.
function zoom(factor, at = (view.from + view.to) / 2) {
  const length = view.to - view.from, wanted = Math.max(length * factor, minRange);
  const from = at - (at - view.from) * wanted / length;
  setRange(from, from + wanted);
}

function showAll() {
  const all = everything();
  setRange(all.from, all.to);
}

// reveal moves the range and the lanes so that a move can be seen.
function reveal(m) {
  const length = view.to - view.from;
  if (m.from < view.from || m.to > view.to) {
    const wanted = Math.max(length, (m.to - m.from) * 1.5), middle = (m.from + m.to) / 2;
    setRange(middle - wanted / 2, middle + wanted / 2);
  }
  const row = shown.lanes.findIndex((l) => m.lanes.includes(l)), y = yOf(row);
  if (row >= 0 && (y < axisHeight || y + laneHeight > height)) box.scrollTop += y - height / 2;
}

// ---- The chosen move ----

function select(m, open) {
  view.selected = m;
  view.storyOpen = open || view.storyOpen;
  if (view.storyOpen) showStory(m);
  byID('status').textContent = `vshard ${orUnknown(m.vshard)}, node ${nodesOf(m)}, ${outcomeOf(m)}, began ${timeOf(m.from)}`;
  resize(); // the story takes a part of the width
  reveal(m);
  rememberView();
}

function closeStory() {
  view.storyOpen = false;
  view.selected = null;
  story.hidden = true;
  resize();
  rememberView();
}

// element returns an element with children, which are elements or texts.
function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

function row(tag, cells, right) {
  return element('tr', '', ...cells.map((c, i) => element(tag, right.includes(i) ? 'right' : '', c)));
}

function showStory(m) {
  const close = element('button', 'close', 'Close');
  close.type = 'button';
  close.title = 'Close (Esc)';
  close.addEventListener('click', () => {
    closeStory();
    canvas.focus();
  });
  const bad = m.outcome === 'aborted' || m.outcome === 'removed_unfinished';
  const number = m.number > 1 ? `, incarnation ${m.number}` : '';
  const parts = [
    close,
    element('h2', '', `vshard ${orUnknown(m.vshard)}, node ${nodesOf(m)}, group ${orUnknown(m.group)}${number}`),
    element('p', 'number id', m.id),
    element('p', 'outcome' + (bad ? ' bad' : m.inDoubt || m.endLost ? ' doubt' : ''), outcomeOf(m)),
  ];
  if (m.reason) parts.push(element('p', 'reason', 'reason: ' + JSON.stringify(m.reason)));
  if (m.compensations.length) {
    parts.push(element('p', '', 'to undo it:'), element('ul', 'compensations', ...m.compensations.map((c) => element('li', 'number', c))));
  }
  if (m.findings.length) {
    parts.push(element('ul', 'findings', ...m.findings.map((f) => element('li', 'finding', `${f.severity}, ${f.rule}: ${f.message}`))));
  }
  parts.push(stepsTable(m), element('p', '', 'The same in a terminal:'));
  const command = element('pre', '', element('code', 'command', data.command + m.id));
  parts.push(command);
  story.replaceChildren(...parts);
  story.hidden = false;
}

function stepsTable(m) {
  const table = element('table', 'steps', element('caption', 'help', `Times of ${dateOf(m.from)}, ${zoneAt(m.from)[2]}`));
  table.append(element('thead', '', row('th', ['SEQ', 'TIME', 'STEP', 'STAYED', 'DETAIL'], [0, 3])));
  const body = element('tbody', '');
  if (m.beginningLost) body.append(row('td', ['?', '', 'LOST', '', 'events before this are lost'], [0, 3]));
  for (const s of m.steps) {
    let stayed = '';
    if (s.stayed !== undefined) stayed = s.stayed < 0 ? span(s.stayed) + ', the clock went back' : span(s.stayed);
    else if (s.open && m.outcome === IN_FLIGHT && !m.endLost && !m.inDoubt) stayed = '> ' + span(Math.max(0, data.end - s.at));
    const line = row('td', [String(s.seq), timeOf(s.at), stepName(s), stayed, detailOf(s, m)], [0, 3]);
    line.dataset.seq = s.seq;
    line.dataset.ms = String(data.t0 + s.at);
    if (s.stayed !== undefined) line.dataset.stayed = String(s.stayed);
    body.append(line);
  }
  if (m.endLost) body.append(row('td', ['?', '', 'LOST', '', 'the end of the incarnation is lost'], [0, 3]));
  if (m.inDoubt) body.append(row('td', ['?', '', 'LOST?', '', 'later events may be lost'], [0, 3]));
  table.append(body);
  return table;
}

// ---- The keyboard ----

// neighbor returns the next move of the lane (dx) or the nearest move of another lane (dy).
function neighbor(m, dx, dy) {
  const row = shown.lanes.findIndex((l) => m.lanes.includes(l));
  if (row < 0) return firstInView();
  const passing = (l) => l.moves.filter((x) => shown.moves.has(x));
  if (dx) {
    const list = passing(shown.lanes[row]), i = list.indexOf(m);
    return i < 0 ? firstInView() : list[i + dx] || m;
  }
  const lane = shown.lanes[row + dy];
  if (!lane) return m;
  return passing(lane).reduce((a, b) => (Math.abs(b.from - m.from) < Math.abs(a.from - m.from) ? b : a));
}

function firstInView() {
  for (const lane of shown.lanes) {
    for (const m of lane.moves) if (shown.moves.has(m) && m.to >= view.from && m.from <= view.to) return m;
  }
  return [...shown.moves][0] || null;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === byID('filter')) {
    if (event.key !== 'Escape') return;
    event.preventDefault(); // a browser would clear the field
    canvas.focus();
    return;
  }
  const onPicture = event.target === canvas || event.target === document.body;
  const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  if (steps[event.key] && onPicture) {
    const m = view.selected ? neighbor(view.selected, ...steps[event.key]) : firstInView();
    if (m) select(m, false);
  } else if (event.key === 'Enter' && onPicture) {
    const m = view.selected || firstInView();
    if (!m) return;
    select(m, true);
    story.focus();
  } else if (event.key === 'Escape') {
    closeStory();
    canvas.focus();
  } else if (event.key === '/') {
    byID('filter').focus();
    byID('filter').select();
  } else if (event.key === '+' || event.key === '=') {
    zoom(0.5, view.selected ? (view.selected.from + view.selected.to) / 2 : undefined);
  } else if (event.key === '-') {
    zoom(2, view.selected ? (view.selected.from + view.selected.to) / 2 : undefined);
  } else if (event.key === '0') {
    showAll();
  } else {
    return;
  }
  event.preventDefault();
}

// ---- The table for screen readers ----

const maxTableRows = 2000;
let tableTimer = 0;

// refillTable fills the table, if it is open, when the filter was not changed for a moment.
function refillTable() {
  clearTimeout(tableTimer);
  if (byID('table').open) tableTimer = setTimeout(fillTable, 200);
}

function fillTable() {
  const table = element('table', '', element('thead', '', row('th', ['VSHARD', 'MOVE', 'BEGAN', 'OUTCOME', 'SEQ', 'FINDINGS', 'ID'], [0, 4])));
  const body = element('tbody', ''), list = [...shown.moves].sort((a, b) => a.from - b.from);
  for (const m of list.slice(0, maxTableRows)) {
    const outcome = outcomeOf(m) + (m.reason ? ': ' + m.reason : '');
    body.append(row('td', [orUnknown(m.vshard), nodesOf(m), timeOf(m.from), outcome, String(m.steps[0].seq), m.findings.map((f) => f.rule).join(', '), m.id], [0, 4]));
  }
  table.append(body);
  const parts = [table];
  if (list.length > maxTableRows) parts.push(element('p', 'help', `and ${list.length - maxTableRows} more: narrow the filter`));
  byID('table').lastElementChild.replaceChildren(...parts);
}

// ---- The address ----

// The address has the range in Unix milliseconds, the filter, and the id and incarnation of the
// chosen move, so that a view can be sent: #view=1577836800000-1577836820000&filter=vshard:8&move=ID.1
let rememberTimer = 0, remembered = '';

function viewText() {
  const parts = [`view=${Math.round(data.t0 + view.from)}-${Math.round(data.t0 + view.to)}`];
  if (view.filter.trim()) parts.push('filter=' + encodeURIComponent(view.filter.trim()).replaceAll('%3A', ':').replaceAll('%2C', ','));
  if (view.selected && view.storyOpen) parts.push(`move=${view.selected.id}.${view.selected.number}`);
  return '#' + parts.join('&');
}

function rememberView() {
  clearTimeout(rememberTimer);
  rememberTimer = setTimeout(() => {
    remembered = viewText();
    history.replaceState(null, '', remembered);
  }, 150);
}

function restoreView() {
  if (location.hash === remembered || location.hash.length < 2) return;
  const given = new URLSearchParams(location.hash.slice(1));
  setFilter(given.get('filter') || '');
  const [, from, to] = /^(\d+)-(\d+)$/.exec(given.get('view') || '') || [];
  if (from !== undefined && Number(to) > Number(from)) setRange(Number(from) - data.t0, Number(to) - data.t0);
  else showAll();
  const [id, number] = (given.get('move') || '').split('.');
  const m = id && moves.find((x) => x.id === id && x.number === Number(number || 1));
  if (m) select(m, true); else closeStory();
}

// ---- The beginning ----

function start() {
  const sameDay = dateOf(data.from) === dateOf(data.to);
  const range = `${dateOf(data.from)} ${timeOf(data.from)} to ${sameDay ? '' : dateOf(data.to) + ' '}${timeOf(data.to)} ${zoneAt(data.from)[2]}`;
  const tally = (...names) => moves.filter((m) => names.includes(m.outcome) && !m.endLost && !m.inDoubt).length;
  const parts = [range, `${moves.length} moves`, `${tally('done', 'removed')} done`, `${tally('aborted')} aborted`, `${tally(IN_FLIGHT)} in flight`];
  if (tally('removed_unfinished')) parts.push(`${tally('removed_unfinished')} removed before Complete`);
  const inDoubt = moves.filter((m) => m.inDoubt).length, endLost = moves.filter((m) => m.endLost).length;
  if (inDoubt) parts.push(`${inDoubt} in doubt`);
  if (endLost) parts.push(`${endLost} with a lost end`);
  if (data.findings.length) parts.push(`${data.findings.length} findings`);
  for (const l of losses.slice(0, 3)) parts.push(l.first === l.last ? `event #${l.first} is lost` : `events #${l.first} to #${l.last} are lost`);
  if (losses.length > 3) parts.push(`and ${losses.length - 3} more losses`);
  if (data.clockBack) parts.push(`the clock went back during ${data.clockBack} moves: bars may overlap`);
  byID('title').textContent = `Timeline of log ${data.log.slice(0, 8)}`;
  document.title = `Timeline of log ${data.log.slice(0, 8)}, ${dateOf(data.from)}`;
  byID('summary').textContent = parts.join(' \u00b7 ');

  byID('controls').addEventListener('submit', (event) => event.preventDefault());
  byID('filter').addEventListener('input', (event) => {
    setFilter(event.target.value);
    rememberView();
  });
  byID('in').addEventListener('click', () => zoom(0.5));
  byID('out').addEventListener('click', () => zoom(2));
  byID('all').addEventListener('click', showAll);
  byID('table').addEventListener('toggle', () => { if (byID('table').open) fillTable(); });
  document.addEventListener('keydown', onKey);
  window.addEventListener('hashchange', restoreView);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    readColors();
    draw();
  });
  new ResizeObserver(resize).observe(box);

  readColors();
  setFilter('');
  restoreView();
}

start();
