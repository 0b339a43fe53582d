// SPDX-License-Identifier: Apache-2.0
// Draws the plots, fills what is for choosing (hosts, outliers), and shows one host. Everything that comes from a host
// is set as text, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const {checks, texts, past} = data;
  const words = {
    pass: "pass", fail: "fail", invalid: "invalid", not_applicable: "not applicable",
    not_tested: "not tested", unreachable: "unreachable",
  };
  const colours = {
    pass: "var(--pass)", fail: "var(--fail)", invalid: "var(--invalid)", not_applicable: "var(--none)",
    not_tested: "var(--lost)", unreachable: "var(--lost)",
  };
  const wordOf = (verdict) => words[verdict];

  // ---- documents, unpacked ----

  const hosts = data.hosts.map((host) => ({
    ...host,
    lines: host.lines.map(([check, status, measured, limit, n, reason, cause, next, details]) => ({
      check: checks[check], index: check, status: data.verdicts[status], measured, limit, n,
      reason: texts[reason], cause: texts[cause], next: texts[next], details,
    })),
    sides: host.sides.map(([check, name, unit, control, n, curve]) => ({check, name, unit, control: control === 1, n, curve})),
  }));
  const byName = new Map(hosts.map((host) => [host.host, host]));
  const measuredChecks = checks.map((check, index) => ({...check, index})).filter((check) => check.spread);
  // What has a plot: figures that differ from host to host. That a limit held is one, but says so in its line.
  const sampled = new Set(hosts.flatMap((host) => host.sides.map((side) => side.check)));
  const plotted = measuredChecks.filter((check) => check.layer !== "function" || sampled.has(check.index));
  // Layers whose ratio to native is judged by a line of its own, which has its own plot.
  const judgedRatios = new Set(measuredChecks.filter((check) => check.unit === "times" && check.layer !== "function").map((check) => check.layer));
  const farOf = new Map(hosts.flatMap((host) => host.outlier.map(([check, far]) => [`${check} ${host.host}`, far])));

  /** One entry a host that has a figure of this check. */
  function figures(check) {
    return hosts.flatMap((host) => {
      const line = host.lines.find((one) => one.index === check.index);
      if (!line || line.measured === null) return [];
      const sides = host.sides.filter((side) => side.check === check.index);
      const subjects = sides.filter((side) => !side.control), controls = sides.filter((side) => side.control);
      // The curve is of what was measured only where its median is the line's figure (a ratio has samples of its own).
      const subject = subjects.length === 1 && Math.abs(subjects[0].curve[10] - line.measured) <= 0.02 * Math.abs(line.measured) ? subjects[0] : null;
      const control = controls.length === 1 ? controls[0] : null;
      return [{
        host: host.host, status: line.status, value: line.measured, limit: line.limit, n: line.n,
        low: subject ? subject.curve[1] : line.measured,
        high: subject ? subject.curve[19] : line.details.p95 ?? line.measured,
        control: subject && control ? control.curve[10] : null,
        controlName: control ? control.name : "",
        outlier: farOf.has(`${check.index} ${host.host}`),
      }];
    });
  }

  // ---- small helpers ----

  function element(name, properties = {}, ...children) {
    const {dataset, ...others} = properties;
    const made = Object.assign(document.createElement(name), others);
    Object.assign(made.dataset, dataset ?? {});
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
  }
  const shown = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
  const figure = (value, unit = "") => value === null || value === undefined ? "" : `${shown.format(value)}${unit ? ` ${unit}` : ""}`;
  const badge = (verdict) => element("span", {className: `badge ${verdict}`, textContent: words[verdict]});
  const hostHash = (name) => `#host=${encodeURIComponent(name)}`;
  const hostLink = (name) => element("a", {className: "host", href: hostHash(name), textContent: name});
  const number = (text) => element("td", {className: "number"}, text);
  const describe = (pairs) => element("dl", {}, ...pairs.filter(([, value]) => value !== "")
    .map(([name, value]) => element("div", {}, element("dt", {textContent: name}), element("dd", {textContent: value}))));
  const when = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 16)}`;

  /** Draws when the card comes near to the screen, anew when its width changes, and before printing. */
  const pending = new Map();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) drawNow(entry.target);
  }, {rootMargin: "400px"});
  function drawNow(place) {
    const draw = pending.get(place);
    if (!draw) return;
    pending.delete(place);
    near.unobserve(place);
    let width = 0;
    new ResizeObserver(() => {
      const now = Math.floor(place.clientWidth);
      if (now > 0 && now !== width) {
        width = now;
        place.replaceChildren(...draw(now));
      }
    }).observe(place);
  }
  function drawn(draw) {
    const place = element("figure");
    pending.set(place, draw);
    near.observe(place);
    return place;
  }
  window.addEventListener("beforeprint", () => {
    for (const [place, draw] of [...pending]) {
      place.replaceChildren(...draw(Math.floor(place.clientWidth) || 600));
      drawNow(place);
    }
  });
  function pickable(plot) {
    plot.classList.add("pick");
    plot.addEventListener("click", () => { if (plot.value?.host) location.hash = hostHash(plot.value.host); });
    return plot;
  }

  // ---- distributions ----

  const statusColour = (entry) => colours[entry.status];
  function scaleOf(values, unit) {
    const low = d3.min(values), high = d3.max(values);
    const logarithmic = low > 0 && high / low > 15;
    // From zero where that costs little: lengths can then be compared.
    const domain = logarithmic ? [low * 0.9, high * 1.1] : low >= 0 && low < 0.7 * high ? [0, high * 1.05] : [low - (high - low || Math.abs(high) || 1) * 0.1, high + (high - low || Math.abs(high) || 1) * 0.1];
    return {type: logarithmic ? "log" : "linear", domain, label: unit, tickFormat: (value) => shown.format(value), ticks: logarithmic ? 3 : 6, grid: true};
  }
  const tip = (entry, unit) => [
    entry.host, `${figure(entry.value, unit)}, ${wordOf(entry.status)}`, `n = ${entry.n}`,
    ...(entry.low < entry.high ? [`P5 to P95: ${figure(entry.low)} to ${figure(entry.high, unit)}`] : []),
    ...(entry.control !== null ? [`${entry.controlName}: ${figure(entry.control, unit)} (ratio ${figure(entry.value / entry.control)})`] : []),
    ...(entry.outlier ? ["outlier"] : []),
  ].join("\n");

  /** Few hosts are dots, piled up where they are close; many are a histogram, with the outliers as dots below it. */
  const manyHosts = 40;
  const allAlike = {style: {fontSize: "12px"}, marginLeft: 48, marginRight: 18};

  function overFleet(check, entries, width) {
    const limits = [...new Set(entries.map((entry) => entry.limit).filter((limit) => limit !== null))];
    const x = scaleOf([...entries.map((entry) => entry.value), ...limits], check.unit);
    const inside = (value) => Math.min(Math.max(value, x.domain[0]), x.domain[1]);
    const many = entries.length > manyHosts;
    const across = (x.type === "log" ? d3.scaleLog : d3.scaleLinear)(x.domain, [0, width - 66]);
    // A histogram has more bars the more hosts it tells of.
    const size = many ? (width - 66) / Math.min(60, Math.ceil(3 * Math.sqrt(entries.length))) : 9.5;
    const binOf = (entry) => Math.min(Math.floor(across(entry.value) / size), Math.floor((width - 66) / size));
    const bins = d3.groups(entries, binOf);
    const fullest = d3.max(bins, ([, members]) => members.length);
    const marks = many ? bars(bins, across, size) : pile(bins, across, size);
    return pickable(Plot.plot({
      ...allAlike, width, x, height: many ? 190 : 62 + fullest * size, marginTop: 20, marginBottom: 36,
      y: many ? {label: "hosts", grid: true, ticks: 4, nice: true} : {axis: null, domain: [0, fullest]}, ariaLabel: `${check.id} over the fleet`,
      marks: [
        check.band && Plot.rect([check.band], {x1: (edge) => inside(edge[0]), x2: (edge) => inside(edge[1]), fill: "var(--band)"}),
        ...marks.below,
        Plot.ruleX(limits, {stroke: "var(--fail)", strokeDasharray: "4 3", strokeWidth: 1.4}),
        Plot.text(limits, {x: (limit) => limit, text: () => "limit", frameAnchor: "top", dy: -12, fill: "var(--fail)"}),
        Plot.tip(marks.entries, Plot.pointer({x: "x", y: "y", title: (entry) => tip(entry, check.unit), fill: "var(--card)"})),
      ],
    }));
  }

  function pile(bins, across, size) {
    const placed = bins.flatMap(([bin, members]) => members.map((entry, row) => ({...entry, x: across.invert((bin + 0.5) * size), y: row + 0.5})));
    return {entries: placed, below: [
      Plot.dot(placed, {x: "x", y: "y", r: size / 2 - 0.7, fill: statusColour, stroke: (entry) => entry.outlier ? "var(--ink)" : "none", strokeWidth: 1.5}),
    ]};
  }

  function bars(bins, across, size) {
    const order = ["pass", "not_applicable", "invalid", "fail"];
    const blocks = bins.flatMap(([bin, members]) => {
      let top = 0;
      return order.flatMap((status) => {
        const count = members.filter((entry) => entry.status === status).length;
        top += count;
        return count ? [{x1: across.invert(bin * size), x2: across.invert((bin + 1) * size), y1: top - count, y2: top, status}] : [];
      });
    });
    const far = bins.flatMap(([, members]) => members.filter((entry) => entry.outlier)).map((entry) => ({...entry, x: entry.value, y: 0}));
    return {entries: far, below: [
      Plot.rect(blocks, {x1: "x1", x2: "x2", y1: "y1", y2: "y2", fill: statusColour, insetLeft: 0.5, insetRight: 0.5}),
      Plot.ruleY([0], {stroke: "var(--line)"}),
      Plot.dot(far, {x: "x", y: "y", r: 3, fill: statusColour, stroke: "var(--ink)"}),
    ]};
  }

  function perHost(check, entries, width) {
    const sorted = entries.slice().sort((a, b) => a.value - b.value).map((entry, rank) => ({...entry, rank: rank + 1}));
    const limits = [...new Set(sorted.map((entry) => entry.limit).filter((limit) => limit !== null))];
    const controls = sorted.filter((entry) => entry.control !== null);
    const y = scaleOf([...sorted.flatMap((entry) => [entry.low, entry.high]), ...controls.map((entry) => entry.control), ...limits], check.unit);
    const step = (width - 70) / sorted.length;
    return pickable(Plot.plot({
      ...allAlike, width, height: 190, marginTop: 22, marginBottom: 34, y,
      x: {domain: [0.5, sorted.length + 0.5], label: "hosts, from the least to the most", ticks: [], labelAnchor: "center", labelArrow: "none"},
      ariaLabel: `${check.id}: P5, median and P95 of each host`,
      marks: [
        Plot.ruleY(limits, {stroke: "var(--fail)", strokeDasharray: "4 3", strokeWidth: 1.4}),
        Plot.ruleX(sorted, {x: "rank", y1: "low", y2: "high", stroke: statusColour, strokeOpacity: 0.45, strokeWidth: Math.max(1, Math.min(5, step * 0.6))}),
        Plot.ruleY(controls, {y: "control", x1: (entry) => entry.rank - 0.4, x2: (entry) => entry.rank + 0.4, stroke: "var(--control)", strokeWidth: 1.5}),
        Plot.dot(sorted, {x: "rank", y: "value", r: step > 6 ? 3 : 1.6, fill: statusColour}),
        Plot.tip(sorted, Plot.pointerX({x: "rank", y: "value", title: (entry) => tip(entry, check.unit), fill: "var(--card)"})),
      ],
    }));
  }

  function ratios(check, entries, width) {
    const having = entries.filter((entry) => entry.control).map((entry) => ({...entry, value: entry.value / entry.control, limit: null, outlier: false}));
    if (having.length < 2) return [];
    const title = element("p", {className: "muted", textContent: `Times its control (${having[0].controlName}), median ${figure(d3.median(having, (entry) => entry.value))}`});
    return [title, overFleet({id: `${check.id}, times its control`, unit: "times", band: null}, having, width)];
  }

  function legend(entries) {
    const present = ["pass", "fail", "invalid", "not_applicable"].filter((status) => entries.some((entry) => entry.status === status));
    const dot = (colour, name) => {
      const mark = element("i");
      mark.style.background = colour;
      return element("span", {}, mark, name);
    };
    return element("div", {className: "legend"}, ...present.map((status) => dot(colours[status], words[status])),
      entries.some((entry) => entry.control !== null) ? dot("var(--control)", `control: ${entries.find((entry) => entry.control !== null).controlName}`) : null);
  }

  function distributions() {
    const place = document.getElementById("plots");
    for (const check of plotted) {
      const entries = figures(check);
      const limits = [...new Set(entries.map((entry) => entry.limit).filter((limit) => limit !== null))];
      const ends = d3.extent(entries, (entry) => entry.value);
      place.append(element("article", {className: "card plot"},
        element("h3", {}, check.id, element("small", {textContent: `${check.layer}: ${check.what}`})),
        describe([
          ["median", figure(check.spread.median, check.unit)],
          ["hosts from", `${figure(ends[0])} to ${figure(ends[1], check.unit)}`],
          ["limit", limits.length === 1 ? figure(limits[0], check.unit) : limits.length ? "differs" : ""],
          ["hosts", figure(check.spread.n)],
          ["outliers", String(check.outliers)],
        ]),
        legend(entries),
        drawn((width) => [
          overFleet(check, entries, width),
          ...(entries.length > 1 ? [perHost(check, entries, width)] : []),
          ...(judgedRatios.has(check.layer) ? [] : ratios(check, entries, width)),
        ])));
    }
    if (!plotted.length) place.append(element("p", {className: "card", textContent: "Nothing was measured in this run."}));
  }

  // ---- outliers ----

  function outliers() {
    const rows = hosts.flatMap((host) => host.outlier.map(([index, far]) => ({
      host: host.host, check: checks[index], far, value: host.lines.find((line) => line.index === index).measured,
    })));
    rows.sort((a, b) => Math.abs(b.far ?? 1e9) - Math.abs(a.far ?? 1e9));
    const body = document.querySelector("#outlier-table tbody");
    const made = rows.map((row) => element("tr", {},
      element("td", {}, hostLink(row.host)), element("td", {textContent: row.check.id}),
      number(figure(row.value, row.check.unit)), number(figure(row.check.spread.median, row.check.unit)),
      number(row.check.spread.median ? figure(row.value / row.check.spread.median) : ""),
      number(row.far === null ? "all others alike" : `${row.far > 0 ? "+" : "\u2212"}${figure(Math.abs(row.far))}`)));
    const first = 20;
    body.append(...made.slice(0, first));
    if (made.length > first) {
      const all = element("tr", {}, element("td", {colSpan: 6}, element("button", {type: "button", textContent: `Show all ${made.length}`, onclick: () => all.replaceWith(...made.slice(first))})));
      body.append(all);
    }
    if (!rows.length) body.append(element("tr", {}, element("td", {colSpan: 6, textContent: hosts.length < 5 ? "Fewer than 5 hosts: no fleet to stand out from." : "None."})));
  }

  // ---- trend ----

  const now = {started: data.started, hosts: hosts.length, counts: d3.rollup(hosts, (all) => all.length, (host) => host.verdict)};
  const times = (entries) => {
    const days = new Set(entries.map((entry) => entry.time.toISOString().slice(0, 10))).size;
    return {type: "utc", label: null, ticks: Math.min(6, entries.length), tickFormat: days > 1 ? "%b %-d" : "%H:%M"};
  };

  function trends() {
    const place = document.getElementById("trends");
    if (!place) return;
    place.append(element("article", {className: "card plot"}, element("h3", {}, "Verdicts", element("small", {textContent: "hosts by run"})),
      drawn((width) => [verdictTrend(width)])));
    for (const check of plotted) {
      const points = past.filter((run) => run.checks[check.id]).map((run) => {
        const [median, q1, q3, n] = run.checks[check.id];
        return {time: new Date(run.started), median, q1, q3, n};
      });
      if (!points.length) continue;
      points.push({time: new Date(data.started), ...check.spread});
      const before = d3.median(points.slice(0, -1), (point) => point.median);
      const change = before ? (check.spread.median / before - 1) * 100 : null;
      place.append(element("article", {className: "card plot"},
        element("h3", {}, check.id, element("small", {textContent: `${check.layer}, median of the hosts`})),
        describe([["now", figure(check.spread.median, check.unit)], ["runs before", figure(before, check.unit)], ["change", change === null ? "" : `${change > 0 ? "+" : "\u2212"}${shown.format(Math.abs(change))} %`]]),
        drawn((width) => [lineTrend(check, points, width)])));
    }
  }

  function verdictTrend(width) {
    const order = ["pass", "not_applicable", "invalid", "fail", "not_tested", "unreachable"];
    const runs = [...past.map((run) => ({...run, counts: new Map(Object.entries(run.counts))})), now];
    const names = runs.map((run) => when(run.started));
    const rows = runs.flatMap((run, index) => order.filter((status) => run.counts.get(status)).map((status) => ({run: index, status, count: run.counts.get(status)})));
    const every = Math.ceil(runs.length / Math.max(2, Math.floor(width / 110)));
    return Plot.plot({
      ...allAlike, width, height: 230, marginBottom: 34, ariaLabel: "Hosts by verdict in each run",
      x: {type: "band", label: null, domain: d3.range(runs.length), tickFormat: (index) => names[index].slice(5), ticks: d3.range(runs.length).filter((index) => (runs.length - 1 - index) % every === 0), tickSize: 0},
      y: {label: "hosts", grid: true, ticks: 5},
      marks: [
        Plot.barY(rows, {x: "run", y: "count", fill: statusColour, order, offset: null, title: (row) => `${names[row.run]}\n${row.count} ${words[row.status]}`, tip: {fill: "var(--card)"}, insetLeft: 1, insetRight: 1}),
        Plot.ruleY([0], {stroke: "var(--line)"}),
      ],
    });
  }

  function lineTrend(check, points, width, key = "median") {
    return Plot.plot({
      ...allAlike, width, height: 230, marginBottom: 30, ariaLabel: `${check.id} over the runs`,
      x: times(points), y: {...scaleOf(points.flatMap((point) => [point[key], point.q1 ?? point[key], point.q3 ?? point[key]]), check.unit), ticks: 5},
      marks: [
        points[0].q1 === undefined ? null : Plot.areaY(points, {x: "time", y1: "q1", y2: "q3", fill: "var(--accent)", fillOpacity: 0.15}),
        Plot.lineY(points, {x: "time", y: key, stroke: "var(--accent)", strokeWidth: 2}),
        Plot.dot(points, {x: "time", y: key, fill: "var(--accent)", r: 3}),
        Plot.tip(points, Plot.pointerX({x: "time", y: key, fill: "var(--card)", title: (point) => `${when(point.time.toISOString())} UTC\n${figure(point[key], check.unit)}${point.n ? `\n${point.n} hosts` : ""}`})),
      ],
    });
  }

  // ---- the list of hosts ----

  const columns = plotted.filter((check) => sampled.has(check.index) && !["function", "controller"].includes(check.layer)).slice(0, 5);
  const table = {find: "", verdicts: new Set(), sort: 1, descending: false};

  function hostList() {
    const head = document.querySelector("#host-table thead tr");
    const keys = [
      ["host", (host) => host.host], ["verdict", (host) => data.verdicts.indexOf(host.verdict)], ["did not pass", (host) => -host.lines.filter((line) => line.status === "fail" || line.status === "invalid").length],
      ...columns.map((check) => [check.id + (check.unit ? `, ${check.unit}` : ""), (host) => host.lines.find((line) => line.index === check.index)?.measured ?? null]),
    ];
    head.replaceChildren(...keys.map(([name], index) => {
      const button = element("button", {type: "button", textContent: name, onclick: () => {
        table.descending = table.sort === index && !table.descending;
        table.sort = index;
        fill();
      }});
      return element("th", {className: index > 2 ? "number" : ""}, button);
    }));
    document.getElementById("filter").hidden = false;
    document.getElementById("find").addEventListener("input", (event) => { table.find = event.target.value.trim().toLowerCase(); fill(); });
    document.getElementById("verdicts").append(...data.verdicts.filter((verdict) => now.counts.get(verdict)).map((verdict) => {
      const button = element("button", {type: "button", ariaPressed: "false", onclick: () => {
        if (!table.verdicts.delete(verdict)) table.verdicts.add(verdict);
        button.ariaPressed = String(table.verdicts.has(verdict));
        fill();
      }}, `${words[verdict]} ${now.counts.get(verdict)}`);
      return button;
    }));
    const rows = hosts.map((host) => {
      const bad = host.lines.filter((line) => line.status === "fail" || line.status === "invalid");
      const row = element("tr", {},
        element("td", {}, hostLink(host.host)), element("td", {}, badge(host.verdict)),
        element("td", {textContent: bad.length ? bad.map((line) => line.check.id).join(", ") : host.reason}),
        ...columns.map((check) => {
          const cell = number(figure(keys[3 + columns.indexOf(check)][1](host)));
          if (farOf.has(`${check.index} ${host.host}`)) cell.append(element("span", {className: "far", title: "outlier", textContent: " \u25c6"}));
          return cell;
        }));
      const search = [host.host, words[host.verdict], host.reason, ...bad.flatMap((line) => [line.check.id, line.reason, line.cause])].join(" ").toLowerCase();
      return {host, row, search};
    });
    function fill() {
      const visible = rows.filter(({host, search}) => search.includes(table.find) && (!table.verdicts.size || table.verdicts.has(host.verdict)));
      const key = keys[table.sort][1];
      visible.sort((a, b) => {
        const left = key(a.host), right = key(b.host);
        // What has no figure comes last either way.
        if (left === null || right === null) return (left === null) - (right === null);
        const order = typeof left === "string" ? left.localeCompare(right, "en", {numeric: true}) : left - right;
        return table.descending ? -order : order;
      });
      [...head.children].forEach((cell, index) => {
        if (index === table.sort) cell.ariaSort = table.descending ? "descending" : "ascending";
        else cell.removeAttribute("aria-sort");
      });
      document.querySelector("#host-table tbody").replaceChildren(...visible.map(({row}) => row));
      document.getElementById("found").textContent = visible.length === hosts.length ? "" : `${visible.length} of ${hosts.length}`;
    }
    fill();
  }

  // ---- one host ----

  const dialog = document.getElementById("host");

  function showHost(host) {
    const position = hosts.indexOf(host);
    const go = (step, name) => element("button", {type: "button", textContent: name, disabled: !hosts[position + step], onclick: () => { location.replace(hostHash(hosts[position + step].host)); }});
    dialog.replaceChildren(
      element("div", {className: "head"}, element("h2", {id: "host-name", textContent: host.host, tabIndex: -1, autofocus: true}), badge(host.verdict), go(-1, "Previous"), go(1, "Next"),
        element("button", {type: "button", textContent: "Close", onclick: () => dialog.close()})),
      element("div", {className: "body"},
        host.reason ? element("p", {className: "card", textContent: `Not tested: ${host.reason}`}) : null,
        host.started ? element("p", {className: "muted", textContent: `${when(host.started)} UTC, ${figure(host.seconds)} s`}) : null,
        host.lines.length ? element("div", {className: "card scroll"}, linesTable(host)) : null,
        ...hostPlots(host),
        host.warnings.length ? element("div", {className: "card"}, element("h3", {textContent: "Warnings"}), element("ul", {className: "warnings"}, ...host.warnings.map((index) => element("li", {textContent: texts[index]})))) : null,
        host.facts.length ? element("div", {className: "card"}, element("h3", {textContent: "What was tested"}), element("table", {className: "facts"}, element("tbody", {}, ...host.facts.map(([name, value]) => element("tr", {}, element("th", {textContent: texts[name]}), element("td", {textContent: texts[value]})))))) : null));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    for (const place of dialog.querySelectorAll("figure")) drawNow(place);
  }

  function linesTable(host) {
    const cell = (label, text) => {
      const made = number(text);
      made.dataset.label = label;
      return made;
    };
    const rank = (line) => ["fail", "invalid", "pass", "not_applicable"].indexOf(line.status);
    const lines = host.lines.slice().sort((a, b) => rank(a) - rank(b));
    return element("table", {className: "lines"},
      element("thead", {}, element("tr", {}, ...["check", "verdict"].map((name) => element("th", {textContent: name})), ...["measured", "limit", "n"].map((name) => element("th", {className: "number", textContent: name})), element("th", {textContent: "why, and what next"}))),
      element("tbody", {}, ...lines.map((line) => element("tr", {},
        element("td", {}, element("b", {textContent: line.check.id}), element("br"), element("small", {textContent: `${line.check.layer}: ${line.check.what}`})),
        element("td", {}, badge(line.status)),
        cell("measured", figure(line.measured, line.check.unit)), cell("limit", figure(line.limit, line.check.unit)), cell("n", line.n && line.measured !== null ? String(line.n) : ""),
        element("td", {},
          line.reason ? element("div", {textContent: line.reason}) : null,
          line.cause ? element("div", {className: "why", textContent: `likely cause: ${line.cause}`}) : null,
          line.next ? element("code", {textContent: line.next}) : null,
          Object.keys(line.details).length ? element("div", {className: "why", textContent: Object.entries(line.details).map(([name, value]) => `${name} ${figure(value)}`).join(", ")}) : null)))));
  }

  function hostPlots(host) {
    const cards = [];
    for (const index of new Set(host.sides.map((side) => side.check))) {
      const check = checks[index], sides = host.sides.filter((side) => side.check === index);
      if (sides.every((side) => side.n < 5)) continue;
      const line = host.lines.find((one) => one.index === index);
      cards.push(element("article", {className: "card plot"},
        element("h3", {}, check.id, element("small", {textContent: "share of the samples up to a time"})),
        drawn((width) => [shares(sides, line && line.check.unit === sides[0].unit ? line.limit : null, width)])));
    }
    const place = hosts.indexOf(host);
    for (const check of plotted) {
      const line = host.lines.find((one) => one.index === check.index);
      const points = past.filter((run) => (run.measured[check.id] ?? [])[place] ?? null).map((run) => ({time: new Date(run.started), value: run.measured[check.id][place]}));
      if (!points.length || !line || line.measured === null) continue;
      points.push({time: new Date(data.started), value: line.measured});
      cards.push(element("article", {className: "card plot"}, element("h3", {}, check.id, element("small", {textContent: "this host over the runs"})), drawn((width) => [lineTrend(check, points, width, "value")])));
    }
    return cards.length ? [element("div", {className: "plots"}, ...cards)] : [];
  }

  function shares(sides, limit, width) {
    const points = sides.flatMap((side) => side.curve.map((value, step) => ({value, share: step * 5, side})));
    const colour = (point) => point.side.control ? "var(--control)" : "var(--accent)";
    return Plot.plot({
      ...allAlike, width, height: 210, marginRight: 70, marginBottom: 36, ariaLabel: "Distribution of the samples",
      x: scaleOf([...points.map((point) => point.value), ...(limit === null ? [] : [limit])], sides[0].unit), y: {label: "%", grid: true, ticks: 4, domain: [0, 100]},
      marks: [
        limit === null ? null : Plot.ruleX([limit], {stroke: "var(--fail)", strokeDasharray: "4 3"}),
        Plot.line(points, {x: "value", y: "share", z: (point) => point.side.name, stroke: colour, strokeWidth: 2}),
        Plot.text(points.filter((point) => point.share === 100), {x: "value", y: "share", text: (point) => point.side.name, textAnchor: "start", dx: 6, fill: colour}),
        Plot.tip(points, Plot.pointer({x: "value", y: "share", fill: "var(--card)", title: (point) => `${point.side.name}, n = ${point.side.n}\nP${point.share}: ${figure(point.value, point.side.unit)}`})),
      ],
    });
  }

  function follow() {
    const found = location.hash.match(/^#host=(.*)$/);
    let host = null;
    try { host = found && byName.get(decodeURIComponent(found[1])); } catch { host = null; }
    if (host) showHost(host);
    else if (dialog.open) dialog.close();
  }
  dialog.addEventListener("close", () => { if (location.hash.startsWith("#host=")) history.replaceState(null, "", `${location.pathname}${location.search}`); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  window.addEventListener("hashchange", follow);

  // ---- theme: as the system has it, or the other ----

  function theme() {
    const button = document.getElementById("theme");
    const modes = ["", "light", "dark"], names = ["as the system", "light", "dark"];
    let mode = 0;
    button.hidden = false;
    button.addEventListener("click", () => {
      mode = (mode + 1) % modes.length;
      if (modes[mode]) document.documentElement.dataset.theme = modes[mode];
      else delete document.documentElement.dataset.theme;
      button.textContent = `Theme: ${names[mode]}`;
    });
  }

  theme();
  distributions();
  outliers();
  trends();
  hostList();
  follow();
})();
