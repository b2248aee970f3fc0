// Gaps between chunks, by length and over time.

// So many levels make one bar, or one row of the map: each is 9.6 % wide.
const COARSER = 4;

function barsOf(byLevel) {
  const bars = new Map();
  byLevel.forEach((count, level) => {
    if (count === 0 || level === 0) return;
    const bar = Math.floor((level - 1) / COARSER);
    bars.set(bar, (bars.get(bar) ?? 0) + count);
  });
  return [...bars]
    .sort((a, b) => a[0] - b[0])
    .map(([bar, count]) => ({
      bar,
      count,
      low: levelStart(1 + bar * COARSER),
      high: levelStart(1 + (bar + 1) * COARSER),
    }));
}

function gapsChart(choice) {
  const paint = palette();
  const gaps = countedGaps(choice);
  const bars = barsOf(gaps.byLevel);
  const tiny = gaps.byLevel[0];
  const marks = ["p50", "p99", "p999"].map((key) => [
    SHARE_WORDS[key],
    gapQuantile(gaps, SHARES[key]),
  ]);
  const longest = bars.length ? bars[bars.length - 1].high : 0;
  const together = tiny
    ? `${plural(tiny, "gap")} below ${ms(LEVELS.floor)} not drawn: events that came together.`
    : "";
  return {
    empty: bars.length === 0 && (together || "There are no gaps among these requests."),
    traces: [
      {
        type: "bar",
        marker: { color: paint.series[0], line: { width: 0 } },
        x: bars.map(({ low, high }) => ((low + high) / 2) * 1000),
        width: bars.map(({ low, high }) => (high - low) * 1000),
        y: bars.map(({ count }) => count),
        hoverinfo: "text",
        textposition: "none",
        hovertext: bars.map(({ low, high, count }) =>
          [
            `<b>${plural(count, "gap")}</b>`,
            `${milliseconds(low)} to ${ms(high)}`,
            `${percent(count / gaps.count, 3)} of all`,
          ].join("<br>"),
        ),
      },
    ],
    layout: layoutOf(paint, 300, {
      showlegend: false,
      bargap: 0,
      dragmode: false,
      margin: { ...MARGIN, t: 48 },
      xaxis: bars.length ? logAxis(bars[0].low * 1000, bars[bars.length - 1].high * 1000) : {},
      yaxis: { type: "log", dtick: 1 },
      shapes: marks.map(([, at]) => ({
        type: "line",
        xref: "x",
        yref: "paper",
        x0: at * 1000,
        x1: at * 1000,
        y0: 0,
        y1: 1,
        line: { color: paint.ink, width: 1, dash: "dot" },
      })),
      annotations:
        gaps.count === 0
          ? []
          : marks.map(([name, at], place) => ({
              text: `${name} ${ms(at)}`,
              x: Math.log10(at * 1000),
              y: 1,
              yref: "paper",
              yshift: 2 + 14 * place,
              yanchor: "bottom",
              xanchor: at > 0.5 * longest ? "right" : "center",
              showarrow: false,
              font: { size: 11, color: paint.soft },
            })),
    }),
    says:
      `${plural(gaps.count, "gap")} between chunks; ` +
      `${marks.map(([name, at]) => `${name} ${ms(at)}`).join(", ")}.`,
    note: [`n = ${whole(gaps.count)}; logarithmic upwards, so that rare gaps show.`, together].join(
      " ",
    ),
    table: () => ({
      caption: "Gaps between chunks by length",
      head: ["from, ms", "to, ms", "gaps", "share"],
      rows: [
        ...(tiny
          ? [["0", milliseconds(LEVELS.floor), whole(tiny), percent(tiny / gaps.count, 3)]]
          : []),
        ...bars.map(({ low, high, count }) => [
          milliseconds(low),
          milliseconds(high),
          whole(count),
          percent(count / gaps.count, 3),
        ]),
      ],
    }),
  };
}

function gapsOverTimeChart(choice) {
  const paint = palette();
  const { byCell, byLevel } = countedGaps(choice);
  const bars = barsOf(byLevel);
  const slices = chosenSlices(choice);
  const value = (i) => REQUESTS.gap[i];
  const chosen = measuredRequests(choice, chosenRequests(choice)).filter((i) => value(i) !== null);
  const longest = [...chosen].sort((a, b) => value(b) - value(a)).slice(0, 200);
  const empty = bars.length === 0 || longest.length === 0;
  const rows = empty ? [] : mapOf(byCell, slices, bars[0].bar, bars[bars.length - 1].bar);
  const edges = rows.map(({ bar }) => levelStart(1 + bar * COARSER) * 1000);
  if (!empty) edges.push(levelStart(1 + (rows[rows.length - 1].bar + 1) * COARSER) * 1000);
  const counts = rows.map(({ counts: row }) => row);
  return {
    empty: empty && "There are no gaps among these requests.",
    traces: [
      {
        type: "heatmap",
        x: [...slices, (slices[slices.length - 1] ?? 0) + 1].map(sliceStart),
        y: edges,
        z: counts.map((row) => row.map((count) => (count === 0 ? null : Math.log10(count)))),
        hovertext: counts.map((row, place) =>
          row.map(
            (count, slice) =>
              `<b>${plural(count, "gap")}</b> of ${number(edges[place])} to ${number(edges[place + 1])} ms` +
              `<br>${sliceWords(slices[slice])}`,
          ),
        ),
        hoverinfo: "text",
        hoverongaps: false,
        showscale: false,
        colorscale: [
          [0, paint.heat[0]],
          [1, paint.heat[1]],
        ],
      },
      {
        type: "scatter",
        mode: "markers",
        customdata: longest,
        hoverinfo: "text",
        x: longest.map((i) => moment(i, "gap_end")),
        y: longest.map((i) => value(i) * 1000),
        text: longest.map((i) => hoverOf(i, choice)),
        marker: { size: 5, color: paint.bad, symbol: "circle-open" },
      },
    ],
    layout: layoutOf(paint, 320, {
      showlegend: false,
      xaxis: runAxis(choice),
      margin: { ...MARGIN, t: 12 },
      yaxis: empty
        ? {}
        : logAxis(edges[0], Math.max(edges[edges.length - 1], value(longest[0]) * 1000)),
      shapes: shades(paint, choice),
    }),
    says: empty
      ? "No gaps."
      : `The longest gap is ${ms(value(longest[0]))}, in request ${whole(REQUESTS.number[longest[0]])},` +
        ` and ended at ${seconds(moment(longest[0], "gap_end"))}.`,
    note:
      "The stronger the colour, the more gaps; circles are the longest gaps of the " +
      `${plural(longest.length, "stream")} that have the longest.`,
    table: () => ({
      caption: "Streams with the longest gaps",
      head: ["request", "longest gap, ms", "ended at", "outcome"],
      rows: longest
        .slice(0, 50)
        .map((i) => [
          whole(REQUESTS.number[i]),
          milliseconds(value(i)),
          seconds(moment(i, "gap_end")),
          outcomeOf(i),
        ]),
    }),
  };
}

// The counts of gaps, a row for each bar of lengths, a column for each slice.
function mapOf(byCell, slices, lowest, highest) {
  const rows = [];
  for (let bar = lowest; bar <= highest; bar += 1) {
    rows.push({ bar, counts: new Array(slices.length).fill(0) });
  }
  for (const [cell, count] of byCell) {
    const level = cell % LEVELS.count;
    if (level === 0) continue;
    const row = rows[Math.floor((level - 1) / COARSER) - lowest];
    row.counts[Math.floor(cell / LEVELS.count) - slices[0]] += count;
  }
  return rows;
}
