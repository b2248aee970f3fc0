// Figures, outcomes, goals, the client: what the summary has, as tables.

function figuresTable(choice) {
  const scope = scopeOf(choice);
  const rows = shownMetrics().map((metric) => [metric, figureOf(scope, metric, choice.origin)]);
  const shown = rows.filter(([, found]) => found?.n);
  if (shown.length === 0) {
    return el(
      "p",
      { class: "empty" },
      "The summary has no figures of just these requests. The charts below do.",
    );
  }
  return scrolling(
    "Figures",
    figureRows(
      `Latencies ${ORIGINS[choice.origin].words}, ms, with 95 % intervals` +
        (choice.steady ? "; of the steady state" : ""),
      shown,
    ),
    "figures",
  );
}

const COLUMNS = ["n", "p50", "p90", "p95", "p99", "p999", "mean", "min", "max"];

function figureRows(caption, rows) {
  const label = (key) => SHARE_WORDS[key] ?? { min: "lowest", max: "highest" }[key] ?? key;
  return el(
    "table",
    {},
    el("caption", {}, caption),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "metric"),
        COLUMNS.map((key) => el("th", { scope: "col" }, label(key))),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map(([metric, found]) =>
        el(
          "tr",
          {},
          el(
            "th",
            { scope: "row" },
            el("a", { href: `#formula-${metric.name}`, title: metric.formula }, metric.label),
          ),
          COLUMNS.map((key) => figureCell(key, label(key), found)),
        ),
      ),
    ),
  );
}

function figureCell(key, label, found) {
  if (key === "n") return el("td", { "data-label": label }, whole(found.n));
  const unsure = found.unsure?.includes(key);
  const ci = found.ci?.[key];
  return el(
    "td",
    {
      "data-label": label,
      class: unsure ? "unsure" : null,
      title: unsure ? `from too few requests to be sure of ${label}` : null,
    },
    el("span", { class: "value" }, figure(found[key], found.unit)),
    unsure ? el("span", { class: "hidden" }, " (not sure)") : null,
    ci ? el("small", {}, `${figure(ci[0], found.unit)}–${figure(ci[1], found.unit)}`) : null,
  );
}

function furtherFigures(choice) {
  const scope = scopeOf(choice);
  const rows = FURTHER.map((metric) => [metric, scope?.metrics?.[metric.name]]).filter(
    ([, found]) => found?.n,
  );
  if (rows.length === 0) return null;
  return el(
    "details",
    { class: "more" },
    el("summary", {}, "More figures"),
    scrolling(
      "More figures",
      figureRows("Latencies from the call, ms; tokens in a request", rows),
      "figures",
    ),
  );
}

function outcomesPanel() {
  const all = Object.values(SUMMARY.outcomes).reduce((a, b) => a + b, 0);
  const rows = Object.entries(SUMMARY.outcomes)
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => [
      outcomeWords(name),
      whole(count),
      percent(count / all),
      shareBar(count / all, ["finished", "length", "content_filter"].includes(name)),
    ]);
  const { planned, made, warmup } = SUMMARY.requests;
  const wanted = planned === null ? "" : `${whole(planned)} planned, `;
  const caption = `${wanted}${whole(made)} made, ${whole(warmup)} of them to warm up`;
  return panel("Outcomes", table({ caption, head: ["outcome", "n", "share", ""], rows }));
}

const SVG = "http://www.w3.org/2000/svg";

// A share as a bar: an SVG, as the page's policy allows no style of its own.
function shareBar(value, good) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 6");
  svg.setAttribute("preserveAspectRatio", "none");
  const rect = document.createElementNS(SVG, "rect");
  rect.setAttribute("width", String(Math.max(1, value * 100)));
  rect.setAttribute("height", "6");
  svg.append(rect);
  return el("span", { class: `bar ${good ? "" : "bad"}`, "aria-hidden": "true" }, svg);
}

function goodputPanel() {
  const { goodput } = SUMMARY;
  if (!goodput) return panel("Goals", el("p", { class: "soft" }, "No goals were set."));
  const rows = Object.entries(goodput.goals).map(([name, limit]) => [
    `${metricLabel(name)} ≤\u00a0${ms(limit)}`,
    percent(goodput.by_goal?.[name]),
    shareBar(goodput.by_goal?.[name] ?? 0, (goodput.by_goal?.[name] ?? 0) >= goodput.wanted),
  ]);
  rows.push([
    "All of them",
    percent(goodput.attainment),
    shareBar(goodput.attainment, goodput.met),
  ]);
  const caption =
    `${whole(goodput.good)} of ${whole(goodput.attempted)} requests kept all goals, ` +
    `${number(goodput.requests_per_second)} per second; ${percent(goodput.wanted)} are wanted`;
  return panel("Goals", table({ caption, head: ["goal", "kept by", ""], rows }));
}

function clientPanel() {
  const { client } = SUMMARY;
  if (!client) return null;
  const spread = (found) =>
    found
      ? `p50 ${milliseconds(found.p50)}, p99 ${milliseconds(found.p99)}, most ${ms(found.max)}`
      : "–";
  const { calibration } = client;
  return panel(
    "The client",
    facts([
      ["Verdict", client.verdict],
      ["Core in use", client.cpu == null ? "–" : percent(client.cpu, 0)],
      ["Loop lag", spread(client.loop_lag)],
      ["Dispatch delay", spread(client.dispatch_delay)],
      ["Coalesced events", percent(client.coalesced_share)],
      [
        "Stamps",
        Object.entries(client.sources ?? {})
          .map(([source, count]) => `${source} ${whole(count)}`)
          .join(", ") || "–",
      ],
      [
        "Calibration",
        calibration
          ? [
              plural(calibration.requests, "request"),
              plural(calibration.streams, "stream"),
              seconds(SUMMARY.calibration_seconds),
            ].join(", ")
          : "none",
      ],
      calibration && ["… first token off by", spread(calibration.time_to_first_token_error)],
      calibration && ["… gaps off by", spread(calibration.inter_chunk_latency_error)],
      SUMMARY.truth && [
        "In this run: first token off by",
        spread(SUMMARY.truth.time_to_first_token_error),
      ],
      SUMMARY.truth && [
        "In this run: gaps off by",
        spread(SUMMARY.truth.inter_chunk_latency_error),
      ],
    ]),
  );
}

function panel(title, ...inside) {
  return el("div", {}, el("h3", {}, title), inside);
}

function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs
      .filter(Boolean)
      .map(([name, value]) =>
        el(
          "div",
          {},
          el("dt", {}, inert(name)),
          el("dd", {}, typeof value === "string" ? foreign(value) : value),
        ),
      ),
  );
}
