// What each request spent its time on, as bars beside and below each other.

const SEGMENTS = [
  ["late or being sent", "scheduled", "sent", "idle"],
  ["waiting for the first token", "sent", "first_token", "wait"],
  ["streaming", "first_token", "last_token", "accent"],
];

function streamsChart(choice) {
  const paint = palette();
  const chosen = chosenRequests(choice);
  const drawn = drawnStreams(chosen);
  const places = lanes(drawn);
  const most = places.reduce((a, b) => Math.max(a, b), 0) + 1;
  const failed = drawn.map((i, place) => [i, places[place]]).filter(([i]) => !isGood(i));
  const traces = SEGMENTS.map(([name, from, to, colour]) =>
    segmentTrace(drawn, places, choice, { name, from, to, color: paint[colour] }),
  );
  traces.push(silenceTrace(failed, choice, paint.bad), {
    type: "scatter",
    mode: "markers",
    name: "failed",
    customdata: failed.map(([i]) => i),
    x: failed.map(([i]) => moment(i, "end")),
    y: failed.map(([, lane]) => lane),
    text: failed.map(([i]) => hoverOf(i, choice)),
    hoverinfo: "text",
    marker: { symbol: "x", size: 7, color: paint.bad },
  });
  return {
    empty: chosen.length === 0 && "No request passes the filters.",
    traces: traces.filter((trace) => trace.x.length > 0),
    layout: layoutOf(paint, Math.min(640, Math.max(180, 80 + most * 14)), {
      barmode: "overlay",
      bargap: 0.25,
      showlegend: true,
      xaxis: runAxis(choice),
      yaxis: { range: [most - 0.4, -0.6], showgrid: false, showticklabels: false, ticks: "" },
      shapes: shades(paint, choice),
    }),
    says:
      `${plural(drawn.length, "stream")} on ${plural(most, "lane")}, ` +
      `${whole(failed.length)} of them failed.`,
    note: [
      "Each stream is a bar, in the topmost lane that was free.",
      drawnNote(
        drawn.length,
        chosen,
        "failed ones, the longest, and evenly some others; a shorter time shows more",
      ),
    ].join(" "),
    table: () => streamsTable(chosen, drawn),
  };
}

// Not more streams than can be told apart: failed ones, the longest, and evenly others.
function drawnStreams(chosen) {
  if (chosen.length <= MOST_STREAMS) return chosen;
  const evenly = (requests, most) => {
    const step = Math.max(1, requests.length / most);
    return requests.filter(
      (_, place) => Math.floor(place / step) !== Math.floor((place - 1) / step),
    );
  };
  const longest = [...chosen].sort((a, b) => REQUESTS.end[b] - REQUESTS.end[a]).slice(0, 50);
  const kept = new Set([
    ...evenly(
      chosen.filter((i) => !isGood(i)),
      150,
    ),
    ...longest,
  ]);
  for (const i of evenly(chosen, MOST_STREAMS - kept.size)) kept.add(i);
  return chosen.filter((i) => kept.has(i));
}

function segmentTrace(drawn, places, choice, { name, from, to, color }) {
  const shown = drawn
    .map((i, place) => [i, places[place]])
    .filter(([i]) => REQUESTS[from][i] !== null && REQUESTS[to][i] !== null);
  return {
    type: "bar",
    orientation: "h",
    name,
    customdata: shown.map(([i]) => i),
    base: shown.map(([i]) => moment(i, from)),
    x: shown.map(([i]) => REQUESTS[to][i] - REQUESTS[from][i]),
    y: shown.map(([, lane]) => lane),
    hoverinfo: "text",
    textposition: "none",
    hovertext: shown.map(([i]) =>
      hoverOf(i, choice, [`${name} for ${ms(REQUESTS[to][i] - REQUESTS[from][i])}`]),
    ),
    marker: {
      color,
      line: { width: 0 },
      opacity: shown.map(([i]) => (REQUESTS.warmup[i] ? 0.45 : 1)),
    },
  };
}

// From the last sign of life to the end of streams that failed.
function silenceTrace(failed, choice, color) {
  const last = (i) => REQUESTS.last_token[i] ?? REQUESTS.headers[i] ?? REQUESTS.sent[i] ?? 0;
  return {
    type: "bar",
    orientation: "h",
    name: "silence before failing",
    customdata: failed.map(([i]) => i),
    base: failed.map(([i]) => REQUESTS.created[i] + last(i)),
    x: failed.map(([i]) => REQUESTS.end[i] - last(i)),
    y: failed.map(([, lane]) => lane),
    hoverinfo: "text",
    textposition: "none",
    hovertext: failed.map(([i]) =>
      hoverOf(i, choice, [`silent for ${ms(REQUESTS.end[i] - last(i))}`]),
    ),
    marker: { color: faded(color), line: { width: 1, color } },
  };
}

function streamsTable(chosen, drawn) {
  return {
    caption:
      drawn.length > MOST_ROWS
        ? `The first ${whole(MOST_ROWS)} of these streams; milliseconds after the call`
        : "Streams; milliseconds after the call",
    head: [
      "request",
      "called at",
      "due",
      "sent",
      "first token",
      "last token",
      "end",
      "chunks",
      "outcome",
    ],
    rows: drawn
      .slice(0, MOST_ROWS)
      .map((i) => [
        whole(REQUESTS.number[i]),
        seconds(REQUESTS.created[i]),
        ...["scheduled", "sent", "first_token", "last_token", "end"].map((name) =>
          milliseconds(REQUESTS[name][i]),
        ),
        whole(REQUESTS.chunks[i]),
        outcomeOf(i),
      ]),
  };
}
