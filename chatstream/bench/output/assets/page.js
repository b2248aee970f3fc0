// The page: its charts, its theme, and how it begins.

const CHARTS = [
  ...(SWEPT
    ? [
        {
          id: "sweep",
          title: "Load",
          lead: "Latency and throughput against load.",
          parts: [{ key: "sweep", draw: sweepChart }],
        },
      ]
    : []),
  {
    id: "percentiles",
    title: "Percentiles",
    lead:
      "How slow, for how many: each step to the right is ten times rarer. " +
      "Bars are the summary’s 95 % intervals.",
    parts: shownMetrics().map((metric) => ({
      key: metric.name,
      title: metric.label,
      draw: percentileChart(metric),
    })),
  },
  {
    id: "first-token",
    title: "First token over time",
    lead:
      "Each request where it was made. Drag over a stretch of time to look at it alone, " +
      "in all charts; double-click to come back.",
    parts: [{ key: "first-token", draw: firstTokenChart, timed: true }],
  },
  {
    id: "gaps",
    title: "Gaps between chunks",
    lead: "How evenly answers flow, and when they don’t.",
    parts: [
      { key: "gap-lengths", title: "By length", draw: gapsChart },
      { key: "gap-times", title: "Over time", draw: gapsOverTimeChart, timed: true },
    ],
  },
  {
    id: "throughput",
    title: "Throughput",
    lead: "What came out, and how much was under way.",
    parts: [{ key: "throughput", draw: throughputChart, timed: true }],
  },
  {
    id: "streams",
    title: "Streams",
    lead: "What each request spent its time on.",
    parts: [{ key: "streams", draw: streamsChart, timed: true }],
  },
  {
    id: "failures",
    title: "Failures",
    lead: "What went wrong, and when.",
    parts: [{ key: "failures", draw: failuresChart, timed: true }],
  },
];

const CONFIG = {
  responsive: true,
  displayModeBar: false,
  doubleClick: false,
  showTips: false,
  scrollZoom: false,
};

function chartSections() {
  return CHARTS.map(({ id, title, lead, parts }) =>
    el(
      "section",
      { "aria-labelledby": id },
      el("h2", { id }, title),
      el("p", { class: "soft" }, lead),
      el(
        "div",
        { class: parts.length > 2 ? "multiples" : "" },
        parts.map((part) => chartFigure(part, title)),
      ),
      id === "failures" && el("div", { id: "errors" }),
    ),
  );
}

function chartFigure(part, sectionTitle) {
  const title = part.title ?? sectionTitle;
  const details = el(
    "details",
    { class: "data" },
    el("summary", {}, part.title ? `“${title}” as a table` : "As a table"),
    el("div", { "data-role": "table" }),
  );
  details.addEventListener("toggle", () => fillTable(part));
  return el(
    "figure",
    { class: "chart", id: `chart-${part.key}`, "aria-label": title },
    part.title ? el("h3", {}, title) : null,
    el("div", { class: "drawing", role: "img", "aria-label": title }),
    el("p", { class: "empty", hidden: true }),
    el("p", { class: "note" }),
    details,
  );
}

function figureElement(part) {
  return document.getElementById(`chart-${part.key}`);
}

function drawPart(part, width = null) {
  const figure_ = figureElement(part);
  const [plot, empty, note] = [".drawing", ".empty", ".note"].map((selector) =>
    figure_.querySelector(selector),
  );
  const drawn = part.draw(choice);
  part.drawn = drawn;
  empty.hidden = !drawn.empty;
  empty.textContent = drawn.empty || "";
  plot.hidden = Boolean(drawn.empty);
  note.textContent = drawn.note;
  plot.setAttribute("aria-label", drawn.says);
  fillTable(part);
  if (drawn.empty) return;
  Plotly.react(
    plot,
    drawn.traces,
    width === null ? drawn.layout : { ...drawn.layout, width },
    CONFIG,
  );
  if (!part.listening) listen(part, plot);
}

function listen(part, plot) {
  part.listening = true;
  plot.on("plotly_click", ({ points }) => {
    const { customdata } = points[0];
    if (customdata?.stage !== undefined) choose({ stage: customdata.stage });
    else if (typeof customdata === "number") showRequest(customdata);
  });
  if (!part.timed) return;
  plot.on("plotly_relayout", (changes) => {
    const [from, to] = ["xaxis.range[0]", "xaxis.range[1]"].map((key) => changes[key]);
    if (from !== undefined)
      choose({
        from: Number(Math.max(0, from).toFixed(3)),
        to: Number(Math.max(0, to).toFixed(3)),
      });
  });
  plot.on("plotly_doubleclick", () => choose({ from: null, to: null }));
}

function fillTable(part) {
  const details = figureElement(part).querySelector("details");
  const place = details.querySelector("[data-role=table]");
  if (!details.open || !part.drawn) return place.replaceChildren();
  const made = part.drawn.table();
  return place.replaceChildren(scrolling(made.caption, table(made), "tall"));
}

// Draws what is in view first, and lets the browser breathe between charts.
let drawing = 0;

function update() {
  drawing += 1;
  const mine = drawing;
  document.documentElement.removeAttribute("data-drawn");
  tellFigures();
  const waiting = CHARTS.flatMap(({ parts }) => parts)
    .map((part) => [part, distance(part)])
    .sort((a, b) => a[1] - b[1]);
  const next = () => {
    if (mine !== drawing) return;
    if (waiting.length === 0) {
      document.documentElement.setAttribute("data-drawn", String(mine));
      return;
    }
    drawPart(waiting.shift()[0]);
    setTimeout(next);
  };
  next();
}

function tellFigures() {
  document.getElementById("passing").textContent = passingWords(chosenRequests(choice));
  document
    .getElementById("figures-table")
    .replaceChildren(...[figuresTable(choice), furtherFigures(choice)].filter(Boolean));
  document.getElementById("errors").replaceChildren(...[errorsTable()].filter(Boolean));
}

function distance(part) {
  const { top, bottom } = figureElement(part).getBoundingClientRect();
  return bottom < 0 ? -bottom + innerHeight : Math.max(0, top);
}

function passingWords(chosen) {
  const about = REQUESTS.weight === null ? "" : "about ";
  const warmup = totalOf(chosen.filter((i) => REQUESTS.warmup[i]));
  const told = [
    `${about}${whole(totalOf(chosen))} of ${plural(REQUESTS.all, "request")}` +
      (warmup ? `, ${about}${whole(warmup)} of them warm-up` : ""),
  ];
  if (about) told.push(`drawn from ${whole(COUNT)} of them`);
  if (choice.origin !== "created") told.push(`latencies ${ORIGINS[choice.origin].words}`);
  if (choice.from !== null || choice.to !== null)
    told.push(`made from ${seconds(choice.from ?? 0)} to ${seconds(choice.to ?? RUN_END)}`);
  return `${told.join("; ")}.`;
}

function errorsTable() {
  const scope = scopeOf({ ...choice, steady: false }) ?? SUMMARY;
  const errors = scope.errors.filter(({ outcome }) =>
    outcomeTest(choice.outcome)(DATA.outcomes.findIndex(({ name }) => name === outcome)),
  );
  if (errors.length === 0) return null;
  return scrolling(
    "Errors",
    table({
      caption:
        scope === SUMMARY
          ? "Errors, the most frequent first"
          : "Errors of this part, the most frequent first",
      head: ["outcome", "error", "what happened", "status", "n", "first at"],
      rows: errors.map((error) => [
        outcomeWords(error.outcome),
        foreign(error.error ?? "–"),
        foreign(error.detail ?? "–"),
        error.status === null ? "–" : String(error.status),
        whole(error.count),
        seconds(error.first),
      ]),
    }),
  );
}

const DARK = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";

function themeChoice() {
  return el(
    "form",
    { id: "theme" },
    segmented("theme", "Theme", [
      ["auto", "Auto"],
      ["light", "Light"],
      ["dark", "Dark"],
    ]),
  );
}

function applyTheme() {
  document.documentElement.dataset.theme =
    theme === "auto" ? (DARK.matches ? "dark" : "light") : theme;
}

function changeTheme() {
  applyTheme();
  update();
}

// Paper is light and narrow.
const PAPER = 680;

function drawForPaper() {
  drawing += 1;
  document.documentElement.dataset.theme = "light";
  for (const part of CHARTS.flatMap(({ parts }) => parts))
    drawPart(part, figureElement(part).parentElement.className ? PAPER / 2 - 12 : PAPER);
}

function begin() {
  applyTheme();
  document.getElementById("top").append(...heading());
  document
    .getElementById("page")
    .append(
      el(
        "section",
        { "aria-labelledby": "answer" },
        el("h2", { id: "answer", class: "hidden" }, "The answer"),
        tiles(),
        findings(),
      ),
      filters(),
      el(
        "section",
        { "aria-labelledby": "figures" },
        el("h2", { id: "figures" }, "Figures"),
        el("div", { id: "figures-table" }),
        el("div", { class: "panels" }, outcomesPanel(), goodputPanel(), clientPanel()),
      ),
      el("div", { id: "charts" }, chartSections()),
      oneSection(),
      runSection(),
      formulasSection(),
    );
  fillForm();
  form().addEventListener("change", () => {
    readForm();
    update();
  });
  form().addEventListener("submit", (event) => event.preventDefault());
  form().addEventListener("reset", (event) => {
    event.preventDefault();
    choose(UNFILTERED);
  });
  document.getElementById("one-form").addEventListener("submit", findRequest);
  const themes = document.getElementById("theme");
  themes.elements.theme.value = theme;
  themes.addEventListener("change", () => {
    theme = themes.elements.theme.value;
    changeTheme();
  });
  DARK.addEventListener("change", changeTheme);
  addEventListener("beforeprint", drawForPaper);
  addEventListener("afterprint", changeTheme);
  tellFigures();
  // The answer can be read while plotly, which stands below, is still being compiled.
  addEventListener("DOMContentLoaded", beginCharts);
}

function beginCharts() {
  document
    .getElementById("foot")
    .append(
      `Made by chatstream ${SUMMARY.chatstream}; charts by plotly.js ${Plotly.version}. ` +
        "This page needs no network.",
    );
  update();
}

begin();
