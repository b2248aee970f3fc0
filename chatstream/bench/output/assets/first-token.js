// Each request where it was made, as high as it had to wait.

function firstTokenChart(choice) {
  const paint = palette();
  const metric = METRIC.time_to_first_token;
  const value = (i) => valueOf(i, metric, choice.origin);
  const chosen = chosenRequests(choice);
  const answered = chosen.filter((i) => value(i) !== null);
  const silent = chosen.filter((i) => value(i) === null);
  const drawn = [
    ...thinned(answered.filter(isGood), value, MOST_POINTS),
    ...thinned(
      answered.filter((i) => !isGood(i)),
      value,
      MOST_POINTS / 4,
    ),
  ];
  const drawnSilent = thinned(silent, (i) => REQUESTS.end[i], MOST_POINTS / 4);
  const traces = kindsOf(drawn).map((kind) => ({
    ...pointTrace(paint, kind, choice),
    y: kind.requests.map((i) => value(i) * 1000),
  }));
  traces.push(
    ...kindsOf(drawnSilent).map((kind) => ({
      ...pointTrace(paint, kind, choice),
      y: kind.requests.map(() => 0),
      yaxis: "y2",
      showlegend: !traces.some((trace) => trace.name === legendName(kind.name)),
    })),
  );
  if (traces.some((trace) => trace.yaxis !== "y2"))
    traces.push(medians(paint, choice, answered, value));
  const strip = drawnSilent.length > 0;
  return {
    empty: chosen.length === 0 && "No request passes the filters.",
    traces,
    layout: layoutOf(paint, strip ? 380 : 340, {
      xaxis: { ...runAxis(choice), anchor: strip ? "y2" : "y" },
      yaxis: { ...timeAxis(drawn.map(value)), domain: [strip ? 0.14 : 0, 1] },
      yaxis2: {
        domain: [0, 0.09],
        range: [-1, 1],
        tickvals: [0],
        ticktext: ["no token"],
        showgrid: false,
      },
      shapes: shades(paint, choice),
      showlegend: true,
    }),
    says: firstTokenWords(choice, answered, silent, value),
    note: drawnNote(
      drawn.length + drawnSilent.length,
      chosen,
      "of each stretch of time the slowest, the fastest and some between",
    ),
    table: () => firstTokenTable(choice, answered, silent, value),
  };
}

// Requests that look alike: ended well by what is compared, failed by outcome; warm-up.
function kindsOf(requests) {
  const kinds = new Map();
  for (const i of requests) {
    const warmup = REQUESTS.warmup[i] === 1;
    const outcome = REQUESTS.outcome[i];
    const good = isGood(i);
    const series = SUMMARY.targets.length > 1 ? REQUESTS.target[i] : SWEPT ? 0 : outcome;
    const key = warmup ? "warm-up" : good ? `good ${series}` : `bad ${outcome}`;
    if (!kinds.has(key)) {
      const words = outcomeWords(DATA.outcomes[outcome].name);
      const compared =
        SUMMARY.targets.length > 1 ? targetName(REQUESTS.target[i]) : SWEPT ? "ended well" : words;
      kinds.set(key, {
        name: warmup ? "warm-up" : good ? compared : words,
        warmup,
        good,
        outcome,
        series,
        requests: [],
      });
    }
    kinds.get(key).requests.push(i);
  }
  return [...kinds.values()].sort(
    (a, b) => a.warmup - b.warmup || b.good - a.good || a.series - b.series,
  );
}

const GOOD_SYMBOLS = ["circle", "diamond", "square", "triangle-up"];
const BAD_SYMBOLS = ["x", "cross", "triangle-down", "star-triangle-up", "hourglass", "bowtie"];

function badPlace(outcome) {
  return DATA.outcomes.filter(({ good }) => !good).indexOf(DATA.outcomes[outcome]);
}

function faultColour(paint, outcome) {
  return paint.faults[badPlace(outcome) % paint.faults.length];
}

function pointTrace(paint, kind, choice) {
  const few = kind.requests.length < 500;
  const colour = kind.good
    ? paint.series[kind.series % paint.series.length]
    : faultColour(paint, kind.outcome);
  const symbol = kind.good
    ? GOOD_SYMBOLS[kind.series % GOOD_SYMBOLS.length]
    : BAD_SYMBOLS[badPlace(kind.outcome) % BAD_SYMBOLS.length];
  return {
    type: "scatter",
    mode: "markers",
    name: legendName(kind.name),
    x: kind.requests.map((i) => startOf(i, choice)),
    customdata: kind.requests,
    text: kind.requests.map((i) => hoverOf(i, choice)),
    hoverinfo: "text",
    marker: {
      color: kind.warmup ? paint.soft : colour,
      symbol: kind.warmup ? "circle-open" : symbol,
      size: kind.good ? (few ? 6 : 4) : 8,
      opacity: kind.good && !few ? 0.6 : 0.9,
    },
  };
}

// When a request began, by the origin that latencies are counted from.
function startOf(i, choice) {
  return REQUESTS.created[i] + (originOf(i, choice.origin) ?? 0);
}

// A line through the median of each slice of time.
function medians(paint, choice, requests, value) {
  const parts = new Map();
  for (const i of measuredRequests(choice, requests)) {
    const slice = sliceOf(startOf(i, choice));
    if (!parts.has(slice)) parts.set(slice, []);
    parts.get(slice).push(i);
  }
  const slices = chosenSlices(choice);
  const found = slices.map((slice) => {
    const part = parts.get(slice) ?? [];
    return part.length < 3
      ? null
      : { count: part.length, at: quantile(distribution(part, value), 0.5) };
  });
  return {
    type: "scatter",
    mode: "lines",
    name: "median",
    line: { color: paint.ink, width: 1.25 },
    x: slices.map((slice) => sliceStart(slice) + SLICES.width / 2),
    y: found.map((each) => (each === null ? null : each.at * 1000)),
    hoverinfo: "text",
    text: found.map((each, place) =>
      each === null
        ? ""
        : `<b>median ${ms(each.at)}</b><br>${plural(each.count, "request")} made ${sliceWords(slices[place])}`,
    ),
  };
}

function firstTokenWords(choice, answered, silent, value) {
  const slowest = answered.reduce((a, b) => (a === null || value(b) > value(a) ? b : a), null);
  if (slowest === null) return "No first token among these requests.";
  return (
    `${plural(totalOf(answered), "request")} with a first token, the slowest ${ms(value(slowest))}` +
    ` (request ${whole(REQUESTS.number[slowest])}, made at ${seconds(REQUESTS.created[slowest])});` +
    ` ${whole(totalOf(silent))} without one.`
  );
}

function drawnNote(drawn, chosen, which) {
  const all = totalOf(chosen);
  return drawn >= all ? "" : `${whole(drawn)} of ${whole(all)} drawn: ${which}.`;
}

function firstTokenTable(choice, answered, silent, value) {
  const rows = [...chosenSlices(choice)].map((slice) => {
    const within = (i) => sliceOf(startOf(i, choice)) === slice;
    const found = distribution(measuredRequests(choice, answered.filter(within)), value);
    const at = (share) => milliseconds(quantile(found, share));
    return [
      seconds(sliceStart(slice)),
      whole(found.count),
      at(0),
      at(0.5),
      at(0.99),
      at(1),
      whole(totalOf(silent.filter(within))),
    ];
  });
  return {
    caption: "Time to first token by slice of time, ms",
    head: ["from", "n", "lowest", "p50", "p99", "highest", "without a token"],
    rows: rows.filter((row) => row[1] !== "0" || row[6] !== "0"),
  };
}
