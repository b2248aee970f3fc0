// Figures out of requests, and out of gaps, which are only counted.

// --- Values of requests ------------------------------------------------------------

function weightOf(i) {
  return REQUESTS.weight === null ? 1 : REQUESTS.weight[i];
}

function totalOf(requests) {
  if (REQUESTS.weight === null) return requests.length;
  return Math.round(requests.reduce((sum, i) => sum + REQUESTS.weight[i], 0));
}

// The moment that latencies are counted from, in seconds after the call.
function originOf(i, origin) {
  return origin === "created" ? 0 : REQUESTS[origin][i];
}

function valueOf(i, metric, origin) {
  if (metric.since === undefined) return REQUESTS[metric.column][i];
  const at = REQUESTS[metric.since][i];
  const from = originOf(i, origin);
  return at === null || from === null ? null : at - from;
}

// --- Percentiles -------------------------------------------------------------------

// Values in order, each with the request it is of and how many it stands for.
function distribution(requests, value) {
  const entries = [];
  for (const i of requests) {
    const found = value(i);
    if (found !== null) entries.push({ value: found, request: i, weight: weightOf(i) });
  }
  entries.sort((a, b) => a.value - b.value);
  let before = 0;
  for (const entry of entries) {
    entry.before = before;
    before += entry.weight;
  }
  return { entries, count: before };
}

// The entry at a place in order, and the value there, linear between neighbours.
function entryAt({ entries }, place) {
  let low = 0;
  let high = entries.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (entries[middle].before <= place) low = middle;
    else high = middle - 1;
  }
  const entry = entries[low];
  const next = entries[Math.min(low + 1, entries.length - 1)];
  const beyond = Math.min(1, Math.max(0, place - (entry.before + entry.weight - 1)));
  return { value: entry.value + (next.value - entry.value) * beyond, request: entry.request };
}

function quantile(found, share) {
  return found.count === 0 ? null : entryAt(found, share * (found.count - 1)).value;
}

// Shares that are dense where few values are: towards 100 %, up to the last of n values.
function sharesFor(count) {
  const shares = [];
  for (let step = 0; step <= 24; step += 1) shares.push((step / 24) * 0.5);
  const last = Math.log10(Math.max(2, count));
  const steps = Math.min(160, Math.ceil((last - Math.log10(2)) * 40));
  for (let step = 1; step <= steps; step += 1) {
    shares.push(1 - 10 ** -(Math.log10(2) + ((last - Math.log10(2)) * step) / steps));
  }
  return shares;
}

// From so many requests on, so high a percentile can be told, about: 662 for p99.
function isSure(share, requests) {
  return requests * (1 - share) >= 6.6;
}

// --- Gaps --------------------------------------------------------------------------

function levelStart(level) {
  return level <= 0 ? 0 : LEVELS.floor * 10 ** ((level - 1) / LEVELS.per_decade);
}

function sliceStart(slice) {
  return SLICES.start + slice * SLICES.width;
}

// The slices that a choice of time takes in: those whose middle is in it.
function chosenSlices(choice) {
  const half = SLICES.width / 2;
  const slices = [];
  for (let slice = 0; slice < SLICES.count; slice += 1) {
    const middle = sliceStart(slice) + half;
    if (choice.from !== null && middle < choice.from) continue;
    if (choice.to !== null && middle > choice.to) continue;
    slices.push(slice);
  }
  return slices;
}

// How many gaps there are of each length, and of each length in each slice.
function countedGaps(choice) {
  const slices = chosenSlices(choice);
  const [first, last] = [slices[0] ?? 0, slices[slices.length - 1] ?? -1];
  const byLevel = new Float64Array(LEVELS.count);
  const byCell = new Map();
  for (const { cells, counts } of measuredGroups(choice)) {
    cells.forEach((cell, place) => {
      const slice = Math.floor(cell / LEVELS.count);
      if (slice < first || slice > last) return;
      byLevel[cell % LEVELS.count] += counts[place];
      byCell.set(cell, (byCell.get(cell) ?? 0) + counts[place]);
    });
  }
  return { byLevel, byCell, count: byLevel.reduce((sum, each) => sum + each, 0) };
}

// A percentile of counted gaps: right within the width of a level, 2.3 %.
function gapQuantile({ byLevel, count }, share) {
  if (count === 0) return null;
  const place = share * (count - 1);
  let before = 0;
  for (let level = 0; level < byLevel.length; level += 1) {
    if (byLevel[level] > 0 && place < before + byLevel[level]) {
      const inside = (place - before + 0.5) / byLevel[level];
      const [low, high] = [levelStart(level), levelStart(level + 1)];
      return level === 0 ? low + (high - low) * inside : low * (high / low) ** inside;
    }
    before += byLevel[level];
  }
  return levelStart(byLevel.length);
}

// --- Over time ---------------------------------------------------------------------

// For each slice, its start and the seconds of it that the run lasted.
function covered(slice) {
  const start = sliceStart(slice);
  return Math.max(SLICES.width / 4, Math.min(SLICES.width, RUN_END - start));
}

function moment(i, name) {
  const after = REQUESTS[name][i];
  return after === null ? null : REQUESTS.created[i] + after;
}

const RUN_END = Array.from({ length: COUNT }, (_, i) => moment(i, "end")).reduce(
  (latest, at) => Math.max(latest, at),
  SLICES.start + SLICES.width / 4,
);

// When the requests of each load were made and ended.
const STAGE_SPANS = SUMMARY.stages.map((_, stage) => {
  const requests = Array.from({ length: COUNT }, (__, i) => i).filter(
    (i) => REQUESTS.stage[i] === stage,
  );
  return [
    requests.reduce((first, i) => Math.min(first, REQUESTS.created[i]), RUN_END),
    requests.reduce((last, i) => Math.max(last, moment(i, "end")), SLICES.start),
  ];
});

function sliceOf(at) {
  const slice = Math.floor((at - SLICES.start) / SLICES.width);
  return Math.min(SLICES.count - 1, Math.max(0, slice));
}

// How many requests ended in each slice.
function endedPerSlice(requests) {
  const counts = new Float64Array(SLICES.count);
  for (const i of requests) counts[sliceOf(moment(i, "end"))] += weightOf(i);
  return counts;
}

// How many requests were under way, as a mean over each slice.
function inFlight(requests) {
  const sums = new Float64Array(SLICES.count);
  for (const i of requests) {
    const [start, end] = [REQUESTS.created[i], moment(i, "end")];
    for (let slice = sliceOf(start); slice <= sliceOf(end); slice += 1) {
      const from = Math.max(start, sliceStart(slice));
      const to = Math.min(end, sliceStart(slice) + SLICES.width);
      sums[slice] += (Math.max(0, to - from) / covered(slice)) * weightOf(i);
    }
  }
  return sums;
}

function tokensPerSlice(choice) {
  const sums = new Float64Array(SLICES.count);
  for (const { tokens } of chosenGroups(choice)) {
    tokens.forEach((count, slice) => {
      sums[slice] += count;
    });
  }
  return sums;
}

// At most about `most` of these requests: of each stretch of time the slowest, the
// fastest and some between; `value` tells how slow.
function thinned(requests, value, most) {
  if (requests.length <= most) return requests;
  const stretches = Math.max(1, Math.floor(most / 8));
  const size = requests.length / stretches;
  const kept = [];
  for (let stretch = 0; stretch < stretches; stretch += 1) {
    const part = requests.slice(Math.round(stretch * size), Math.round((stretch + 1) * size));
    const order = [...part].sort((a, b) => (value(b) ?? 0) - (value(a) ?? 0));
    const keep = new Set([order[0], order[1], order[order.length - 1]]);
    for (let step = 0; step < 5; step += 1) keep.add(part[Math.floor((step / 5) * part.length)]);
    kept.push(...part.filter((i) => keep.has(i)));
  }
  return kept;
}

// Each stream gets the lowest lane that is free when it starts.
function lanes(requests) {
  const free = [];
  return requests.map((i) => {
    const start = REQUESTS.created[i] + Math.min(0, REQUESTS.scheduled[i] ?? 0);
    let lane = free.findIndex((until) => until <= start + 1e-5);
    if (lane < 0) lane = free.push(0) - 1;
    free[lane] = moment(i, "end");
    return lane;
  });
}
