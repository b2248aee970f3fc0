// What all charts have in common: colours, axes, shades, and what hovering tells.
//
// A chart is a function from what a reader chose to what plotly draws (`traces`, `layout`),
// a sentence that tells the same (`says`), a `note` on what isn't drawn, a function that
// makes the figures a `table`, and `empty`: why nothing is drawn, or false.
// Hover text is ready-made and escaped: plotly's own templates see no foreign text.

const MOST_POINTS = 2400;
const MOST_STREAMS = 600;
const MOST_ROWS = 200;
const NARROW = matchMedia("(max-width: 45rem)");
const COARSE = matchMedia("(pointer: coarse)");

// The page's own colours, as the theme has them now.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: colour("ink"),
    soft: colour("soft"),
    line: colour("line"),
    surface: colour("surface"),
    ground: colour("ground"),
    bad: colour("bad"),
    ok: colour("ok"),
    accent: colour("accent"),
    stall: colour("shade-stall"),
    steady: colour("shade-steady"),
    wait: colour("wait"),
    idle: colour("idle"),
    heat: [colour("heat-low"), colour("heat-high")],
    series: colour("series").split(" "),
    faults: colour("faults").split(" "),
    font: getComputedStyle(document.body).fontFamily,
  };
}

function layoutOf(paint, height, changes) {
  const axis = {
    gridcolor: paint.line,
    linecolor: paint.line,
    tickcolor: paint.line,
    zeroline: false,
    ticks: "outside",
    ticklen: 4,
    fixedrange: true,
    title: { font: { size: 12, color: paint.soft }, standoff: 8 },
  };
  return {
    template: { layout: { xaxis: axis, yaxis: axis, colorway: paint.series } },
    height,
    autosize: true,
    margin: { ...MARGIN, t: 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: paint.font, size: 12, color: paint.ink },
    hovermode: "closest",
    dragmode: COARSE.matches ? false : "zoom",
    hoverlabel: {
      bgcolor: paint.surface,
      bordercolor: paint.soft,
      align: "left",
      font: { family: paint.font, size: 12, color: paint.ink },
    },
    legend: {
      orientation: "h",
      x: 0,
      y: 1,
      xanchor: "left",
      yanchor: "bottom",
      font: { size: 12 },
    },
    ...changes,
  };
}

// The same for all charts, so that moments stand below each other.
const MARGIN = { l: 68, r: 12, t: 12, b: 36 };
const STEPS = [1, 2, 5];

// A logarithmic axis in milliseconds with a label at 1, 2 and 5, or at powers of ten alone.
function logAxis(lowest, highest) {
  const [low, high] = [Math.log10(lowest * 0.9), Math.log10(highest * 1.12)];
  const steps = high - low > 2.6 ? [1] : STEPS;
  const tickvals = [];
  for (let power = Math.floor(low); power <= high; power += 1) {
    tickvals.push(...steps.map((step) => step * 10 ** power));
  }
  const shown = tickvals.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
  const ticktext = shown.map(
    (value) => `${value >= 1 ? whole(value) : Number(value.toPrecision(1))} ms`,
  );
  return { type: "log", range: [low, high], tickvals: shown, ticktext };
}

// The axis for these seconds: logarithmic if they differ much.
function timeAxis(values) {
  const positive = values.filter((value) => value > 0).map((value) => value * 1000);
  if (positive.length === 0) return { type: "linear", ticksuffix: " ms", rangemode: "tozero" };
  const lowest = positive.reduce((a, b) => Math.min(a, b));
  const highest = positive.reduce((a, b) => Math.max(a, b));
  const evenly = highest < lowest * 8 || positive.length < values.length;
  if (evenly)
    return { type: "linear", tickformat: ",~g", ticksuffix: " ms", range: [0, highest * 1.08] };
  return logAxis(lowest, highest);
}

function runAxis(choice) {
  const [start, end] = choice.stage === null ? [SLICES.start, RUN_END] : STAGE_SPANS[choice.stage];
  const [from, to] = [choice.from ?? start, choice.to ?? end];
  const room = (to - from) * 0.01;
  return {
    range: [from - room, to + room],
    fixedrange: false,
    ticksuffix: " s",
    nticks: NARROW.matches ? 5 : 12,
  };
}

// The steady state and stalls, as shades behind a chart over time.
function shades(paint, choice) {
  const stage = SWEPT && choice.stage !== null ? SUMMARY.stages[choice.stage] : null;
  const part = stage ?? (choice.target !== null ? SUMMARY.targets[choice.target] : SUMMARY);
  const shade = (start, end, fillcolor, text, textposition) => ({
    type: "rect",
    xref: "x",
    yref: "paper",
    x0: start,
    x1: end,
    y0: 0,
    y1: 1,
    fillcolor,
    line: { width: 0 },
    layer: "below",
    label: { text, textposition, font: { size: 11, color: paint.soft }, padding: 3 },
  });
  const found = [];
  const steady = part.steady_state;
  if (steady)
    found.push(shade(steady.start, steady.end, paint.steady, "steady state", "top right"));
  for (const stall of part.stalls ?? []) {
    found.push(
      shade(stall.start, stall.end, paint.stall, `stall ${seconds(stall.seconds)}`, "top left"),
    );
  }
  return found;
}

function sliceWords(slice) {
  return `from ${seconds(sliceStart(slice))}, for ${seconds(SLICES.width)}`;
}

function legendName(name) {
  return plain(name.length > 40 ? `${name.slice(0, 39)}…` : name);
}

// A request in a few lines: its number, outcome and figures.
function hoverOf(i, choice, lines = []) {
  const told = [`<b>request ${requestWords(i)}</b> · ${plain(outcomeOf(i))}`];
  if (SUMMARY.targets.length > 1) told.push(plain(targetName(REQUESTS.target[i])));
  if (SWEPT) told.push(plain(stageName(REQUESTS.stage[i])));
  told.push(...lines);
  const [first, last] = [METRIC.time_to_first_token, METRIC.duration].map((metric) =>
    valueOf(i, metric, choice.origin),
  );
  told.push(`first token ${ms(first)} ${ORIGINS[choice.origin].words}`);
  told.push(`duration ${ms(last)}, ${plural(REQUESTS.chunks[i], "chunk")}`);
  told.push(`longest gap ${ms(REQUESTS.gap[i])}`);
  if (REQUESTS.warmup[i]) told.push("warm-up: in no figure");
  return told.join("<br>");
}

function outcomeOf(i) {
  const error = REQUESTS.errors[REQUESTS.error[i]];
  const words = outcomeWords(DATA.outcomes[REQUESTS.outcome[i]].name);
  return error ? `${words} (${error})` : words;
}
