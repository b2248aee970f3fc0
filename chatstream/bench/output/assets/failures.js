// What went wrong, and when.

function failuresChart(choice) {
  const paint = palette();
  const chosen = chosenRequests(choice).filter((i) => !REQUESTS.warmup[i]);
  const failed = chosen.filter((i) => !isGood(i));
  const slices = chosenSlices(choice);
  const kinds = kindsOf(failed).map((kind) => ({ ...kind, counts: endedPerSlice(kind.requests) }));
  const words = kinds.map((kind) => `${whole(totalOf(kind.requests))} ${kind.name}`).join(", ");
  const most = endedPerSlice(failed).reduce((a, b) => Math.max(a, b), 0);
  return {
    empty:
      failed.length === 0 &&
      (chosen.length === 0
        ? "No request passes the filters."
        : `None of these ${plural(totalOf(chosen), "request")} failed.`),
    traces: kinds.map((kind) => ({
      type: "bar",
      name: legendName(kind.name),
      x: slices.map((slice) => sliceStart(slice) + SLICES.width / 2),
      y: slices.map((slice) => kind.counts[slice]),
      width: SLICES.width * 0.9,
      hoverinfo: "text",
      textposition: "none",
      hovertext: slices.map(
        (slice) =>
          `<b>${whole(kind.counts[slice])} ${plain(kind.name)}</b><br>ended ${sliceWords(slice)}`,
      ),
      marker: { color: faultColour(paint, kind.outcome), line: { width: 0 } },
    })),
    layout: layoutOf(paint, 260, {
      barmode: "stack",
      showlegend: true,
      xaxis: runAxis(choice),
      yaxis: { rangemode: "tozero", ...(most <= 5 ? { dtick: 1 } : { nticks: 5 }) },
      shapes: shades(paint, choice),
    }),
    says:
      failed.length === 0
        ? "No failures."
        : `${whole(totalOf(failed))} of ${plural(totalOf(chosen), "request")} failed: ${words}.`,
    note: "When they ended, by outcome; warm-up isn’t counted.",
    table: () => ({
      caption: `Failures by slices of ${seconds(SLICES.width)}`,
      head: ["from", ...kinds.map(({ name }) => name)],
      rows: slices
        .filter((slice) => kinds.some(({ counts }) => counts[slice] > 0))
        .map((slice) => [
          seconds(sliceStart(slice)),
          ...kinds.map(({ counts }) => whole(counts[slice])),
        ]),
    }),
  };
}
