// Latency against percentile: how slow, for how many.

const SHARE_TICKS = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];

function shareX(share) {
  return -Math.log10(1 - Math.min(share, 1 - 1e-9));
}

// One metric's latency against percentile, a line for each of what is compared.
function percentileChart(metric) {
  return (choice) => {
    const paint = palette();
    const lines = seriesOf(choice).map((each) => curveOf(metric, each));
    const traces = [];
    lines.forEach((line, place) => traces.push(...curveTraces(paint, metric, line, place)));
    // A few tiny values would take most of a logarithmic axis.
    const scaled = lines.flatMap((line) =>
      [0.1, ...Object.values(SHARES), 1].map((share) => line.at(share)?.value ?? 0),
    );
    const most = Math.max(2, ...lines.map((line) => line.count));
    const ticks = SHARE_TICKS.filter((share) => share === 0 || most * (1 - share) >= 0.9);
    const several = lines.length > 1;
    return {
      empty: lines.every((line) => line.count === 0) && "Nothing was observed of these requests.",
      traces,
      layout: layoutOf(paint, 300, {
        showlegend: several,
        margin: { ...MARGIN, t: several ? 28 : 12, b: 40 },
        xaxis: {
          tickvals: ticks.map(shareX),
          ticktext: ticks.map((share) => `${Number((share * 100).toFixed(3))}`),
          range: [-0.04, shareX(1 - 0.4 / most)],
          title: { text: "percentile" },
        },
        yaxis: timeAxis(scaled),
      }),
      says: lines.map((line) => curveWords(metric, line)).join(" "),
      note: several ? "" : curveNote(lines[0]),
      table: () => curveTable(metric, lines),
    };
  };
}

// Percentiles of one metric: of requests exactly, of counted gaps within 2.3 %.
function curveOf(metric, { name, choice }) {
  const requests = measuredRequests(choice, chosenRequests(choice));
  const found = metric.counted
    ? countedGaps(choice)
    : distribution(requests, (i) => valueOf(i, metric, choice.origin));
  const at = (share) => {
    if (found.count === 0) return null;
    if (metric.counted) return { value: gapQuantile(found, share), request: null };
    return entryAt(found, share * (found.count - 1));
  };
  const points =
    found.count === 0
      ? []
      : [...sharesFor(found.count), 1].map((share) => ({ share, ...at(share) }));
  const known = isWhole(choice) ? figureOf(scopeOf(choice), metric, choice.origin) : null;
  const told = metric.counted
    ? requests.filter((i) => REQUESTS.gap[i] !== null)
    : found.entries.map(({ request }) => request);
  return { name, choice, count: found.count, requests: totalOf(told), at, points, known };
}

function curveTraces(paint, metric, line, place) {
  const colour = paint.series[place % paint.series.length];
  const sure = line.points.filter(({ share }) => isSure(share, line.requests));
  const unsure = line.points.slice(Math.max(0, sure.length - 1));
  const trace = (points, changes) => ({
    type: "scatter",
    mode: "lines",
    name: legendName(line.name),
    legendgroup: String(place),
    x: points.map(({ share }) => shareX(Math.min(share, 1 - 0.5 / line.count))),
    y: points.map(({ value }) => value * 1000),
    text: points.map((point) => curveHover(line, point)),
    hoverinfo: "text",
    line: { color: colour, width: 2 },
    ...changes,
  });
  const traces = [
    trace(sure, { showlegend: line.name !== "" }),
    trace(unsure, { showlegend: false, line: { color: colour, width: 1.5, dash: "dot" } }),
  ];
  if (line.known !== null) traces.push(intervals(line, colour, place));
  return traces;
}

function curveHover(line, { share, value, request }) {
  const told = [
    `<b>${share === 1 ? "highest" : `p${Number((share * 100).toPrecision(5))}`}: ${ms(value)}</b>`,
  ];
  if (line.name) told.push(plain(line.name));
  if (!isSure(share, line.requests))
    told.push(`${plural(line.requests, "request")}: too few to be sure`);
  if (request !== null) told.push(`request ${whole(REQUESTS.number[request])}`);
  return told.join("<br>");
}

// The summary's percentiles with their 95 % intervals.
function intervals({ known, name }, color, place) {
  const shown = Object.keys(SHARES).filter((key) => known[key] !== null && known.ci?.[key]);
  const bound = (side) => shown.map((key) => Math.abs(known.ci[key][side] - known[key]) * 1000);
  return {
    type: "scatter",
    mode: "markers",
    showlegend: false,
    legendgroup: String(place),
    x: shown.map((key) => shareX(SHARES[key])),
    y: shown.map((key) => known[key] * 1000),
    marker: {
      size: 7,
      color,
      symbol: shown.map((key) => (known.unsure?.includes(key) ? "circle-open" : "circle")),
    },
    error_y: {
      type: "data",
      symmetric: false,
      array: bound(1),
      arrayminus: bound(0),
      color,
      thickness: 1.5,
      width: 4,
    },
    text: shown.map((key) =>
      [
        `<b>${SHARE_WORDS[key]}: ${ms(known[key])}</b>`,
        ...(name ? [plain(name)] : []),
        `95 % interval ${milliseconds(known.ci[key][0])} to ${ms(known.ci[key][1])}`,
        ...(known.unsure?.includes(key) ? ["too few requests to be sure"] : []),
      ].join("<br>"),
    ),
    hoverinfo: "text",
  };
}

function curveWords(metric, line) {
  if (line.count === 0) return `${metric.label}: nothing was observed.`;
  const told = ["p50", "p90", "p99"].map((key) => `${key} ${ms(line.at(SHARES[key]).value)}`);
  const about = line.name ? `, ${line.name}` : "";
  told.push(`highest ${ms(line.at(1).value)}`, `n ${whole(line.count)}`);
  return `${metric.label}${about}: ${told.join(", ")}.`;
}

function curveNote(line) {
  const unsure = line.points.find(({ share }) => !isSure(share, line.requests));
  const of = line.count === line.requests ? "" : ` of ${plural(line.requests, "request")}`;
  const n = `n = ${whole(line.count)}${of}`;
  if (unsure === undefined) return n;
  const from = Math.floor(unsure.share * 1e5) / 1e3;
  return `${n}; dotted from p${Number(from.toFixed(from < 99 ? 1 : 3))} on, where so few say little`;
}

function curveTable(metric, lines) {
  const shares = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1];
  return {
    caption: `${metric.label}, ms`,
    head: ["percentile", ...lines.map((line) => `${line.name || metric.label}`)],
    rows: [
      ["n", ...lines.map((line) => whole(line.count))],
      ...shares.map((share) => [
        share === 0 ? "lowest" : share === 1 ? "highest" : `p${Number((share * 100).toFixed(1))}`,
        ...lines.map((line) => milliseconds(line.at(share)?.value)),
      ]),
    ],
  };
}
