"use strict";

// What is known of the run, as Python wrote it down. Times are seconds; what wasn't
// observed is null.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SUMMARY = DATA.summary;
const REQUESTS = DATA.requests;
const COUNT = REQUESTS.number.length;
const SLICES = DATA.slices;
const LEVELS = DATA.levels;
const SWEPT = SUMMARY.stages.length > 0;
