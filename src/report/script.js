// What the page can be asked, beyond what can be read without a script. Everything shown is made of elements by name and
// of text (`make`), never of markup: no name and no log can become anything else.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const host = document.getElementById("table");
  // Rows that are drawn at once.
  const PAGE = matchMedia("(max-width: 40rem)").matches ? 20 : 50;
  // Columns for labels.
  const LABELS = 5;
  const count = (n) => n.toLocaleString("en");
  const many = (n, word) => count(n) + " " + word + (n === 1 ? "" : "s");

  // An element with attributes, of which `on…` are listeners, and children: elements and text.
  function make(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // As the rest of the page writes them.
  function time(us) {
    const s = us / 1e6;
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    if (us < 1e4) return (us / 1e3).toFixed(1) + " ms";
    if (s < 1) return Math.floor(us / 1e3) + " ms";
    if (s < 60) return s.toFixed(1) + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + two(s % 60) + " s";
    return Math.floor(s / 3600) + " h " + two((s % 3600) / 60) + " min";
  }
  function size(bytes) {
    if (bytes < 1024) return bytes + " B";
    let unit = -1;
    for (; bytes >= 1024 && unit < 4; unit += 1) bytes /= 1024;
    return bytes.toFixed(1) + " " + ["KiB", "MiB", "GiB", "TiB", "PiB"][unit];
  }
  const command = (words) => make("code", {}, "task-pipeline " + words + data.db);
  const utc = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ") + " UTC";

  const keys = Object.keys(data.groups);
  const tasks = data.tasks.map(([name, id, done, failed, pending]) => ({name, id, sums: [done, failed, pending]}));
  const steps = data.steps.map((row) => {
    const step = {};
    data.columns.forEach((name, at) => { step[name] = row[at]; });
    step.of = tasks[step.task];
    step.task = step.of.name;
    for (const name of ["outcome", "host", "batch", "why"]) step[name] = data.texts[step[name]];
    step.begun = step.started < 0 ? null : data.since + step.started;
    const labels = Object.entries(step.labels).map(([key, value]) => key + "=" + value);
    step.labelled = labels.length ? " [" + labels.join(",") + "]" : "";
    step.words = [step.id, step.task, step.input, step.state, step.outcome, ...labels].join(" ").toLowerCase();
    return step;
  });
  const byId = new Map(steps.map((step) => [step.id, step]));
  const all = data.all;
  const isCut = data.cut;
  const called = (step) => "step " + step.id + " " + step.task + (step.input ? " (" + step.input + ")" : "") + step.labelled;

  // ---- The table of steps

  const number = {class: "n"};
  const COLUMNS = [
    {name: "Step", of: (step) => step.id, cell: (step) => make("a", {href: "#step-" + step.id}, String(step.id)), ...number},
    {name: "Task", of: (step) => step.task, class: "word"},
    {name: "Input", of: (step) => step.input, class: "path"},
    ...keys.slice(0, LABELS).map((key) => ({name: key, of: (step) => step.labels[key] ?? "", class: "label"})),
    {name: "State", class: "wide", of: (step) => step.state, cell: (step) => make("span", {}, icon(step.state), step.outcome || step.state)},
    {name: "Time", of: (step) => step.wall, text: (step) => time(step.wall), ...number},
    {name: "CPU", of: (step) => step.cpu, text: (step) => time(step.cpu), ...number},
    {name: "Memory", of: (step) => step.memory, text: (step) => size(step.memory * 1024), ...number},
    {name: "Attempts", of: (step) => step.attempts, ...number},
    {name: "Started, UTC", of: (step) => step.begun || 0, text: (step) => utc(step.begun).slice(0, 19), class: "n wide"},
  ];
  // These are sorted from the largest down at first.
  const isLarge = (column) => /^n/.test(column.class || "");
  // Of these a step that was never tried has nothing.
  const MEASURED = ["Time", "CPU", "Memory", "Started, UTC"];

  // The mark beside a state: one of those that the page has anyway.
  function icon(state) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    svg.setAttribute("class", "icon " + state);
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", "#" + state);
    svg.append(use);
    return svg;
  }

  // What is asked for.
  const asked = {words: [], state: "", task: "", group: "", only: null, by: 0, down: false, shown: PAGE};
  const natural = new Intl.Collator("en", {numeric: true}).compare;
  let ordered = steps;

  // Sorting is what takes time, so what is sorted stays so while it is filtered.
  function sort() {
    const of = COLUMNS[asked.by].of;
    const isText = steps.length > 0 && typeof of(steps[0]) === "string";
    const compare = isText ? natural : (a, b) => a - b;
    const turn = asked.down ? -1 : 1;
    ordered = [...steps].sort((a, b) => turn * compare(of(a), of(b)) || a.id - b.id);
  }
  const groupOf = (step, key) => key === "task" ? step.task : step.labels[key.slice(6)] ?? null;
  const isAsked = (step) =>
    (!asked.state || step.state === asked.state) && (!asked.task || step.task === asked.task) &&
    (!asked.only || groupOf(step, asked.only.key) === asked.only.value) &&
    asked.words.every((word) => step.words.includes(word));
  const isFiltered = () => asked.words.length > 0 || asked.state || asked.task || asked.only;

  function draw() {
    const found = isFiltered() ? ordered.filter(isAsked) : ordered;
    const listed = isCut ? count(steps.length) + " listed of " + many(all, "step") : many(all, "step");
    status.textContent = isFiltered() ? count(found.length) + " of " + listed : listed;
    chip.hidden = !asked.only;
    if (asked.only) chip.textContent = asked.only.key.replace("label:", "") + " = " + asked.only.value + " ×";
    if (asked.group) drawGroups(found);
    else drawSteps(found);
  }

  function drawSteps(found) {
    const heads = COLUMNS.map((column, at) => {
      const turn = asked.by !== at ? "none" : asked.down ? "descending" : "ascending";
      const onclick = () => {
        asked.down = asked.by === at ? !asked.down : isLarge(column) && at > 0;
        sortBy(at);
        body.querySelectorAll("thead button")[at].focus();
      };
      return make("th", {scope: "col", class: column.class, "aria-sort": turn},
        make("button", {type: "button", onclick}, column.name));
    });
    const rows = found.slice(0, asked.shown).map((step) => make("tr", {}, ...COLUMNS.map((column, at) => {
      const isBlank = step.begun === null && MEASURED.includes(column.name);
      const content = isBlank ? "–" : column.cell ? column.cell(step) : String((column.text || column.of)(step));
      const attributes = {class: column.class, "data-label": column.name, scope: at === 0 ? "row" : null};
      return make(at === 0 ? "th" : "td", attributes, content);
    })));
    const caption = asked.shown < found.length ? "The first " + count(asked.shown) + " of " + many(found.length, "step") : many(found.length, "step");
    const table = make("table", {class: "cards"}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
    const onclick = () => {
      const first = asked.shown;
      asked.shown += PAGE;
      draw();
      body.querySelectorAll("tbody th a")[first].focus();
    };
    const more = found.length > asked.shown ? make("button", {type: "button", onclick}, "Show more") : null;
    body.replaceChildren(make("div", {class: "scroll", role: "region", tabindex: "0", "aria-label": "Steps"}, table));
    if (more) body.append(more);
  }

  // Sums over all steps, listed or not, if no filter says which are meant.
  function drawGroups(found) {
    const sums = new Map();
    const isWhole = !isFiltered();
    let left = 0;
    if (isWhole && asked.group === "task") {
      tasks.forEach((task) => sums.set(task.name, [...task.sums]));
    } else if (isWhole) {
      const [values, others] = data.groups[asked.group.slice(6)];
      values.forEach(([value, ...of]) => sums.set(value, of));
      left = others;
    } else {
      for (const step of found) {
        const value = groupOf(step, asked.group);
        if (value === null) continue;
        if (!sums.has(value)) sums.set(value, [0, 0, 0]);
        sums.get(value)[["done", "failed", "pending"].indexOf(step.state)] += 1;
      }
    }
    const name = asked.group.replace("label:", "");
    const times = new Map();
    const hasTimes = !isCut || !isWhole;
    for (const step of found) {
      const value = groupOf(step, asked.group);
      times.set(value, (times.get(value) || 0) + step.wall);
    }
    const heads = [name, "Steps", "Done", "Failed", "Left", ...(hasTimes ? ["Time"] : [])];
    const rows = [...sums].sort((a, b) => natural(a[0], b[0])).slice(0, 1000).map(([value, [done, failed, pending]]) => {
      const onclick = () => {
        Object.assign(asked, {only: {key: asked.group, value}, group: "", shown: PAGE});
        group.value = "";
        draw();
        chip.focus();
      };
      const numbers = [done + failed + pending, done, failed, pending].map(count);
      if (hasTimes) numbers.push(time(times.get(value) || 0));
      const cells = numbers.map((text, at) => make("td", {class: "n" + (text === "0" ? " nil" : ""), "data-label": heads[at + 1]}, text));
      return make("tr", {}, make("th", {scope: "row", "data-label": name},
        make("button", {type: "button", class: "link", onclick}, value || "(empty)")), ...cells);
    });
    const table = make("table", {class: "cards"}, make("caption", {}, many(rows.length, "group")),
      make("thead", {}, make("tr", {}, ...heads.map((head, at) => make("th", {scope: "col", class: at ? "n" : null}, head)))),
      make("tbody", {}, ...rows));
    body.replaceChildren(make("div", {class: "scroll", role: "region", tabindex: "0", "aria-label": "Groups"}, table));
    if (left === null) body.append(make("p", {class: "muted"}, "It has too many values to be grouped by."));
    if (left) body.append(make("p", {class: "muted"}, count(left) + " more values, with fewer steps each, are left out."));
  }

  function sortBy(at) {
    asked.by = at;
    asked.shown = PAGE;
    order.value = String(at);
    sort();
    draw();
  }
  function choice(label, options, change, attributes) {
    const select = make("select", {onchange: (event) => {
      change(event.target.value);
      asked.shown = PAGE;
      draw();
    }}, ...options.map(([value, text]) => make("option", {value}, text)));
    return [select, make("label", attributes || {}, label + " ", select)];
  }
  const search = make("input", {type: "search", placeholder: "words to look for", autocomplete: "off", oninput: (event) => {
    asked.words = event.target.value.toLowerCase().split(/\s+/).filter((word) => word);
    asked.shown = PAGE;
    draw();
  }});
  const [, state] = choice("State", [["", "all"], ["done", "done"], ["failed", "failed"], ["pending", "pending"]],
    (value) => { asked.state = value; });
  const [, task] = choice("Task", [["", "all"], ...tasks.map(({name}) => [name, name])], (value) => { asked.task = value; });
  const [group, grouped] = choice("Group by", [["", "nothing"], ["task", "task"], ...keys.map((key) => ["label:" + key, key])],
    (value) => { asked.group = value; });
  const [order, sorted] = choice("Sort by", COLUMNS.map((column, at) => [String(at), column.name]), (value) => {
    asked.down = isLarge(COLUMNS[value]) && value !== "0";
    sortBy(Number(value));
  }, {class: "small"});
  const chip = make("button", {type: "button", class: "chip", hidden: true, onclick: () => {
    asked.only = null;
    draw();
    search.focus();
  }});
  const status = make("p", {class: "muted", role: "status"});
  const body = make("div", {});
  if (isCut) {
    host.append(make("p", {class: "lead"}, "Listed are the slowest, the failed and the newest of " + many(all, "step") +
      "; groups without a filter count all. ", command("explain STEP"), " tells of any step."));
  }
  host.append(make("div", {class: "tools", role: "search"}, make("label", {}, "Filter ", search), state, task, grouped, sorted, chip), status, body);
  document.querySelectorAll(".scripted").forEach((part) => { part.hidden = false; });
  sort();
  draw();

  // ---- Results: a click on the head of a column sorts its table
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, at) => {
      const name = head.textContent;
      const onclick = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        const lines = [...table.tBodies[0].rows].map((row) => [row.cells[at] ? row.cells[at].textContent : "", row]);
        // All that is there is a number.
        const areNumbers = head.className === "n";
        const value = (text) => text.trim() === "" ? -Infinity : Number(text);
        lines.sort(areNumbers ? (a, b) => value(a[0]) - value(b[0]) : (a, b) => natural(a[0], b[0]));
        if (down) lines.reverse();
        table.tBodies[0].append(...lines.map(([, row]) => row));
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
      };
      head.replaceChildren(make("button", {type: "button", onclick}, name));
    });
  }

  // ---- The timeline: what is under the pointer is told at once, and it can be drawn larger

  const chart = document.querySelector(".timeline > svg");
  function timeline() {
    const {ms, begun, run, workers, lanes} = Object.fromEntries(Object.entries(chart.dataset).map(([key, text]) => [key, Number(text)]));
    const colors = chart.dataset.tasks.split(",").map(Number);
    const frame = chart.closest(".scroll");
    // As the page draws them.
    const [LANE, GAP] = [22, 6];
    // The largest scale, and how many marks there are within what is seen.
    const [MOST, FAR] = [512, 8];
    const draw = (name, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      return element;
    };
    const share = (part) => (part * 100).toFixed(4) + "%";

    // Where the page has drawn how busy the workers were, because there are so many steps: those that are listed.
    const slices = chart.querySelector(".slices");
    const bars = draw("g", {});
    if (slices) {
      for (const step of steps) {
        const [, item, of] = /^(\d+) of (\d+)/.exec(step.batch) || [0, 1, 1];
        if (step.run !== run || step.begun === null || item > 1) continue;
        const lane = Math.floor(Math.min(Math.max(step.worker - 1, 0), workers - 1) * lanes / workers);
        const color = colors.indexOf(step.of.id);
        const bar = draw("rect", {"data-step": step.id, x: share((step.begun - begun) / ms), width: share(Math.max(step.wall * of / 1e3 / ms, 1e-6)),
          y: lane * (LANE + GAP) + GAP / 2, height: LANE, class: "step c" + (color < 0 ? 6 : color)});
        bars.append(bar);
        if (step.state === "failed") bars.append(draw("use", {href: "#cross", x: share((step.begun - begun + step.wall / 2e3) / ms), y: lane * (LANE + GAP) + GAP / 2 + LANE / 2}));
      }
      chart.append(bars);
    }
    const told = (step) => called(step) + ", " + time(step.wall) + (step.state === "failed" ? ", failed: " + step.outcome : "") +
      (step.why ? "; " + step.why : "");

    let scale = 1;
    let whole = 0;
    const width = () => chart.getBoundingClientRect().width;
    // Draws it so many times as wide; what is at `place` of the frame stays there.
    function zoom(to, place) {
      if (scale === 1) whole = width();
      const left = chart.parentNode.firstElementChild.getBoundingClientRect().width;
      const at = (frame.scrollLeft + place - left) / width();
      scale = Math.min(Math.max(to, 1), MOST);
      chart.style.flex = scale === 1 ? "" : "0 0 " + Math.round(whole * scale) + "px";
      frame.scrollLeft = at * whole * scale - place + left;
      if (slices) {
        slices.classList.toggle("dim", scale > 1);
        bars.style.display = scale > 1 ? "" : "none";
      }
      closer.disabled = scale === MOST;
      wider.disabled = entire.disabled = scale === 1;
      marks();
    }
    function marks() {
      const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];
      const step = STEPS.find((step) => ms / step <= FAR * scale) || Math.ceil(ms / FAR / 864e5) * 864e5;
      const words = (at) => at === 0 ? "0" : at < 12e4 ? (step < 1e3 ? Math.round(at) / 1e3 : at / 1e3) + " s"
        : step < 6e4 ? Math.floor(at / 6e4) + ":" + String(Math.round(at % 6e4) / 1e3).padStart(2, "0") : at < 72e5 ? at / 6e4 + " min" : at / 36e5 + " h";
      const high = lanes * (LANE + GAP);
      const drawn = [];
      for (let at = 0; at <= ms; at += step) {
        const x = share(at / ms);
        drawn.push(draw("line", {class: "grid", x1: x, x2: x, y2: high}));
        const text = draw("text", {x, y: high + 15, "text-anchor": at === 0 ? "start" : at / ms > 0.96 ? "end" : "middle"});
        text.textContent = words(at);
        drawn.push(text);
      }
      chart.querySelector(".axis").replaceChildren(...drawn);
    }
    const middle = () => frame.clientWidth / 2;
    const button = (text, onclick) => make("button", {type: "button", onclick}, text);
    const closer = button("Closer", () => zoom(scale * 2, middle()));
    const wider = button("Wider", () => zoom(scale / 2, middle()));
    const entire = button("All", () => zoom(1, 0));
    wider.disabled = entire.disabled = true;
    bars.style.display = "none";
    frame.before(make("div", {class: "tools"}, closer, wider, entire));
    // As maps have it; a wheel alone scrolls the page.
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoom(scale * (event.deltaY < 0 ? 1.3 : 1 / 1.3), event.clientX - frame.getBoundingClientRect().left);
    }, {passive: false});
    frame.addEventListener("dblclick", (event) => zoom(scale * 2, event.clientX - frame.getBoundingClientRect().left));
    frame.addEventListener("keydown", (event) => {
      if (event.target !== frame) return;
      if (event.key === "+") zoom(scale * 2, middle());
      else if (event.key === "-") zoom(scale / 2, middle());
      else if (event.key === "0") zoom(1, 0);
    });

    // The browser's own tips come late, and would come as well.
    const tip = make("div", {class: "tip", hidden: true});
    document.body.append(tip);
    for (const title of chart.querySelectorAll("[data-step] > title")) {
      title.parentNode.setAttribute("data-told", title.textContent);
      title.remove();
    }
    chart.addEventListener("pointermove", (event) => {
      const bar = event.target.closest("[data-step]");
      tip.hidden = !bar;
      if (!bar) return;
      const step = byId.get(Number(bar.dataset.step));
      tip.textContent = bar.dataset.told || told(step);
      const beside = event.clientX > innerWidth / 2 ? event.clientX - tip.offsetWidth - 12 : event.clientX + 12;
      tip.style.left = Math.max(4, beside) + "px";
      tip.style.top = event.clientY + 16 + "px";
    });
    chart.addEventListener("pointerleave", () => { tip.hidden = true; });
    chart.addEventListener("click", (event) => {
      const bar = event.target.closest("[data-step]");
      if (bar) show("#step-" + bar.dataset.step);
    });
  }

  // ---- One step

  const heading = make("h2", {id: "detail-title", tabindex: "-1"});
  const content = make("div", {});
  const close = make("button", {type: "button", onclick: () => dialog.close()}, "Close");
  const dialog = make("dialog", {"aria-labelledby": "detail-title"}, close, heading, content);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  // The link to a step is the page's address while the step is shown.
  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#step-")) history.replaceState(null, "", location.pathname + location.search);
  });

  const names = ([listed, known], what) => {
    const items = listed.map((item) => make("li", {}, what(item)));
    if (known > listed.length) items.push(make("li", {class: "muted"}, "and " + count(known - listed.length) + " more"));
    return make("ul", {class: "names"}, ...items);
  };
  const file = ([name, bytes]) => make("span", {class: "path"}, name, make("small", {}, bytes === null ? " no longer kept" : " " + size(bytes)));
  const near = (item) => {
    const step = typeof item === "number" ? byId.get(item) : null;
    return step ? make("a", {href: "#step-" + step.id}, called(step)) : make("span", {}, typeof item === "number" ? "step " + item : item[1]);
  };

  function facts(step) {
    const more = step.more || {};
    const list = make("dl", {class: "facts"});
    const fact = (name, value) => { if (value) list.append(make("dt", {}, name), make("dd", {}, value)); };
    fact("State", make("span", {}, icon(step.state), step.state + (step.outcome ? ": " + step.outcome : "")));
    fact("Why", step.why || make("span", {}, "left out, to keep the page small: ", command("explain " + step.id)));
    if (step.same) fact("Same as", near(step.same));
    for (const [key, value] of Object.entries(step.labels)) fact(key, value);
    if (step.begun !== null) {
      fact("Attempt", step.attempts + " in run " + step.run + ", " + utc(step.begun));
      (more.tries || []).forEach((text) => fact("Before", data.texts[text]));
      fact("Took", time(step.wall) + ", " + time(step.cpu) + " of CPU, " + size(step.memory * 1024) + " of memory");
      fact("Worker", step.host || step.worker || null);
      fact("Started", step.forked ? "by a forked interpreter" : "by an interpreter of its own");
      fact("Batch", step.batch);
    }
    if (more.in) fact("Input", names(more.in, file));
    if (more.out) fact("Outputs", names(more.out, file));
    if (more.up) fact("Made from", names(more.up, near));
    if (more.down) fact("Used by", names(more.down, near));
    const lines = (label, text) => make("pre", {tabindex: "0", role: "region", "aria-label": label}, text);
    const parts = [list, make("h3", {}, "End of its log")];
    if (step.log === 0) parts.push(make("p", {class: "muted"}, step.begun === null ? "It has not run." : "It printed nothing."));
    else if (step.log === 1) parts.push(make("p", {}, "Left out, to keep the page small: ", command("log " + step.id)));
    else parts.push(lines("Log", data.logs[step.log - 2]));
    const script = document.querySelector("#script-" + step.of.id + " pre");
    if (script) parts.push(make("h3", {}, "Script of " + step.task), lines("Script", script.textContent));
    return parts;
  }

  // Shows the step that the page's address names.
  function follow() {
    const found = /^#step-(\d+)$/.exec(location.hash);
    if (!found) {
      if (dialog.open) dialog.close();
      return;
    }
    const step = byId.get(Number(found[1]));
    if (!step && document.getElementById("step-" + found[1])) return;
    heading.textContent = step ? called(step) : "step " + found[1];
    content.replaceChildren(...(step ? facts(step) : [make("p", {}, "This step is not on the page: it is not among those listed, or no longer part of the pipeline. ",
      command("explain " + found[1]), " tells of it.")]));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    heading.focus();
  }
  function show(address) {
    history.pushState(null, "", address);
    follow();
  }
  addEventListener("hashchange", follow);
  // Not by the browser: it would scroll there, and forget what had the focus.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#step-']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(link.getAttribute("href"));
  });
  if (chart) timeline();
  follow();
})();
