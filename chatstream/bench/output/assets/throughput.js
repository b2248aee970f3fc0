// What came out in each slice of time, and how much was under way.

function throughputChart(choice) {
  const paint = palette();
  const chosen = chosenRequests(choice);
  const slices = chosenSlices(choice);
  const ended = endedPerSlice(chosen.filter(isGood));
  const failed = endedPerSlice(chosen.filter((i) => !isGood(i)));
  const tokens = tokensPerSlice(choice);
  const flight = inFlight(chosen);
  const per = (counts) => slices.map((slice) => counts[slice] / covered(slice));
  const rows = [
    { name: "answers/s", axis: "y", values: per(ended), color: paint.series[0] },
    { name: "failures/s", axis: "y", values: per(failed), color: paint.bad },
    { name: "output tokens/s", axis: "y2", values: per(tokens), color: paint.series[2] },
    {
      name: "in flight",
      axis: "y3",
      values: slices.map((slice) => flight[slice]),
      color: paint.series[3],
    },
  ].filter(({ name, values }) => name !== "failures/s" || values.some((value) => value > 0));
  const peak = (name) => {
    const { values } = rows.find((row) => row.name === name);
    return number(values.reduce((a, b) => Math.max(a, b), 0));
  };
  const middle = slices.map((slice) => sliceStart(slice) + SLICES.width / 2);
  return {
    empty: chosen.length === 0 && "No request passes the filters.",
    traces: rows.map(({ name, axis, values, color }) => ({
      type: "scatter",
      mode: "lines",
      name,
      x: middle,
      y: values,
      yaxis: axis,
      hoverinfo: "text",
      line: { color, width: 1.75, shape: "hvh" },
      fill: name === "failures/s" ? "none" : "tozeroy",
      fillcolor: faded(color),
      text: values.map(
        (value, place) => `<b>${number(value)} ${name}</b><br>${sliceWords(slices[place])}`,
      ),
    })),
    layout: layoutOf(paint, 480, {
      hovermode: "x",
      showlegend: false,
      margin: { ...MARGIN, t: 24 },
      xaxis: { ...runAxis(choice), anchor: "y3" },
      yaxis: { domain: [0.72, 1], rangemode: "tozero" },
      yaxis2: { domain: [0.36, 0.64], rangemode: "tozero" },
      yaxis3: { domain: [0, 0.28], rangemode: "tozero" },
      shapes: shades(paint, choice),
      annotations: rows.map(rowTitle),
    }),
    says:
      chosen.length === 0
        ? "Nothing to draw."
        : `At most ${peak("answers/s")} answers and ${peak("output tokens/s")} output tokens per second,` +
          ` and ${peak("in flight")} requests in flight, each as the mean of ${seconds(SLICES.width)}.`,
    note:
      "Output tokens by the server’s counts, spread over each stream’s chunks; " +
      "a stream without a count counts each chunk as one.",
    table: () => ({
      caption: `Throughput by slices of ${seconds(SLICES.width)}`,
      head: ["from", ...rows.map(({ name }) => name)],
      rows: slices.map((slice, place) => [
        seconds(sliceStart(slice)),
        ...rows.map(({ values }) => number(values[place])),
      ]),
    }),
  };
}

// What a row of a chart shows, above its left end; the second of two beside the first.
function rowTitle({ name, axis, color }) {
  const second = name === "failures/s";
  return {
    text: `<b>${name}</b>`,
    x: 0,
    xref: "paper",
    xanchor: "left",
    xshift: second ? 80 : 0,
    y: 1,
    yref: `${axis} domain`,
    yanchor: "bottom",
    showarrow: false,
    font: { size: 12, color },
  };
}

function faded(colour) {
  return `${colour}22`;
}
