// Latency and throughput against load.

const SWEEP_ROWS = [
  { axis: "y", domain: [0.72, 1], metric: METRIC.time_to_first_token },
  { axis: "y2", domain: [0.36, 0.64], metric: METRIC.inter_chunk_latency },
];

function sweepChart(choice) {
  const paint = palette();
  const stages = SUMMARY.stages
    .map((stage, place) => ({ ...stage, place }))
    .sort((a, b) => a.value - b.value);
  const lines = SWEEP_ROWS.flatMap(({ axis, metric }, row) =>
    ["p50", "p99"].map((key) => ({
      axis,
      color: paint.series[row],
      dash: key === "p50" ? "solid" : "dash",
      words: `${SHARE_WORDS[key]} of ${metric.label.toLowerCase()}`,
      points: stages.map((stage) => sweepPoint(figureOf(stage, metric, choice.origin), key)),
      unit: "ms",
    })),
  );
  lines.push(sweepThroughput(paint, stages));
  const span = (axis) =>
    timeAxis(
      lines
        .filter((line) => line.axis === axis)
        .flatMap(({ points }) => points.filter(Boolean).map(({ value }) => value / 1000)),
    );
  const titles = [
    ...SWEEP_ROWS.map(({ axis, metric }, row) => ({
      name: `${metric.label}: p50, and p99 dashed`,
      axis,
      color: paint.series[row],
    })),
    { name: lines[4].unit, axis: "y3", color: paint.series[2] },
  ];
  const { shapes, annotations } = sweepMarks(paint);
  return {
    traces: lines.map((line) => sweepTrace(stages, line)),
    layout: layoutOf(paint, 560, {
      showlegend: false,
      dragmode: false,
      margin: { ...MARGIN, t: 48, b: 44 },
      xaxis: {
        anchor: "y3",
        type: "log",
        tickvals: stages.map(({ value }) => value),
        ticktext: stages.map(({ value }) => String(Number(value.toPrecision(3)))),
        title: {
          text:
            SUMMARY.sweep.over === "request_rate"
              ? "requests due per second"
              : "requests at a time",
        },
      },
      yaxis: { ...span("y"), domain: SWEEP_ROWS[0].domain },
      yaxis2: { ...span("y2"), domain: SWEEP_ROWS[1].domain },
      yaxis3: { domain: [0, 0.28], rangemode: "tozero" },
      shapes,
      annotations: [...titles.map(rowTitle), ...annotations],
    }),
    says: sweepWords(),
    note: "Bars are 95 % intervals. Click a load to see its requests below.",
    table: () => sweepTable(stages, choice),
  };
}

function sweepPoint(found, key) {
  if (found === null || found[key] === null || found[key] === undefined) return null;
  return { value: found[key] * 1000, ci: found.ci?.[key]?.map((bound) => bound * 1000) };
}

function sweepThroughput(paint, stages) {
  const counted = stages.some(({ throughput }) => throughput.output_tokens_per_second);
  const [key, unit] = counted
    ? ["output_tokens_per_second", "output tokens/s"]
    : ["requests_per_second", "answers/s"];
  const points = stages.map(({ throughput }) => throughput[key]);
  return { axis: "y3", color: paint.series[2], dash: "solid", words: "throughput", points, unit };
}

function sweepTrace(stages, { axis, color, dash, words, points, unit }) {
  const bound = (side) =>
    points.map((point) => (point?.ci ? Math.abs(point.ci[side] - point.value) : 0));
  return {
    type: "scatter",
    mode: "lines+markers",
    name: words,
    x: stages.map(({ value }) => value),
    y: points.map((point) => point?.value ?? null),
    yaxis: axis,
    customdata: stages.map(({ place }) => ({ stage: place })),
    text: stages.map(
      ({ place }, i) =>
        `<b>${number(points[i]?.value)} ${unit}</b>, ${words}<br>${stageName(place)}`,
    ),
    hoverinfo: "text",
    line: { color, width: 2, dash },
    marker: { size: 7 },
    error_y: {
      type: "data",
      symmetric: false,
      thickness: 1,
      width: 3,
      color,
      array: bound(1),
      arrayminus: bound(0),
    },
  };
}

function sweepMarks(paint) {
  const { knee, best } = SUMMARY.sweep;
  const marks = [
    [best, "best that meets the goals", paint.ok],
    [knee, "knee", paint.soft],
  ].filter(([place]) => place !== null);
  if (knee !== null && knee === best)
    marks.splice(0, 2, [knee, "knee, and best that meets the goals", paint.ok]);
  return {
    shapes: marks.map(([place, , color]) => ({
      type: "line",
      xref: "x",
      yref: "paper",
      x0: SUMMARY.stages[place].value,
      x1: SUMMARY.stages[place].value,
      y0: 0,
      y1: 1,
      line: { color, width: 1.5, dash: "dot" },
      layer: "below",
    })),
    annotations: marks.map(([place, text, color]) => ({
      text,
      x: Math.log10(SUMMARY.stages[place].value),
      xref: "x",
      yref: "paper",
      y: 1,
      yshift: 20,
      yanchor: "bottom",
      showarrow: false,
      font: { size: 11, color },
    })),
  };
}

function sweepWords() {
  const { over, knee, best } = SUMMARY.sweep;
  const at = (place) => loadWords(over, SUMMARY.stages[place].value);
  return [
    best === null
      ? "No load meets the goals and is stable."
      : `The most that meets the goals: ${at(best)}.`,
    knee === null
      ? "No knee was reached."
      : `The knee is at ${at(knee)}: more load brings hardly more answers.`,
  ].join(" ");
}

function sweepTable(stages, choice) {
  const cell = (stage, metric, key) => milliseconds(figureOf(stage, metric, choice.origin)?.[key]);
  return {
    caption: "Loads of the sweep; latencies in ms",
    head: [
      "load",
      "answers/s",
      "output tokens/s",
      "TTFT p50",
      "TTFT p99",
      "ICL p50",
      "ICL p99",
      "ended well",
      "goals met",
      "",
    ],
    rows: stages.map((stage) => [
      loadWords(SUMMARY.sweep.over, stage.value),
      number(stage.throughput.requests_per_second?.value),
      number(stage.throughput.output_tokens_per_second?.value),
      cell(stage, METRIC.time_to_first_token, "p50"),
      cell(stage, METRIC.time_to_first_token, "p99"),
      cell(stage, METRIC.inter_chunk_latency, "p50"),
      cell(stage, METRIC.inter_chunk_latency, "p99"),
      `${whole(stage.requests.good)} of ${whole(stage.requests.made - stage.requests.warmup)}`,
      stage.goodput ? percent(stage.goodput.attainment) : "–",
      [stage.place === SUMMARY.sweep.best && "best", stage.place === SUMMARY.sweep.knee && "knee"]
        .filter(Boolean)
        .join(", "),
    ]),
  };
}
