"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const count = (value) => value.toLocaleString("en");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const swatch = (colour) => make("span", { class: "swatch", style: `--colour:${colour}` });

  // Light and dark: the system's choice until the button is used.
  const root = document.documentElement;
  const stored = (() => { try { return localStorage.getItem("dinoseg-theme"); } catch { return null; } })();
  if (stored) root.dataset.theme = stored;
  byId("theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    root.dataset.theme = theme;
    try { localStorage.setItem("dinoseg-theme", theme); } catch { /* a private window keeps nothing */ }
  });

  // Values of the curves under the pointer.
  for (const svg of document.querySelectorAll("svg.chart")) {
    const { frame, lines } = JSON.parse(svg.dataset.chart);
    const cursor = svg.querySelector(".cursor");
    const readout = svg.parentElement.querySelector(".readout");
    const resting = readout.textContent;
    const show = (value) => Math.abs(value) >= 0.01 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      const wanted = (x - frame.left) / (frame.right - frame.left) * frame.last;
      const nearest = (line) => line.steps.reduce((best, step, i) =>
        Math.abs(step - wanted) < Math.abs(line.steps[best] - wanted) ? i : best, 0);
      const step = lines[0].steps[nearest(lines[0])];
      const place = frame.left + step / frame.last * (frame.right - frame.left);
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
      cursor.removeAttribute("hidden");
      readout.textContent = `step ${count(Math.round(step))}: ` +
        lines.map((line) => `${line.name} ${show(line.values[nearest(line)])}`).join(", ");
    });
    svg.addEventListener("pointerleave", () => {
      cursor.setAttribute("hidden", "");
      readout.textContent = resting;
    });
  }

  // Sorting: the first click brings the worst of a figure, the largest of a count; undefined values stay last.
  const table = byId("class-table");
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.addEventListener("click", () => {
    const first = column === 0 || header.classList.contains("figure") ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    headers.forEach((entry) => entry.setAttribute("aria-sort", entry === header ? order : "none"));
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value === "" ? null : Number(row.cells[column].dataset.value);
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === null || right === null) return (left === null) - (right === null);
      return sign * (left - right);
    });
    table.tBodies[0].append(...rows);
  }));

  byId("hide-absent")?.addEventListener("change", (event) => table.classList.toggle("hide-undefined", event.target.checked));

  // Confusion matrix.
  const matrix = byId("matrix");
  const readout = byId("matrix-readout");
  const names = data.classes.map((entry) => entry.name);
  const dense = names.length > 30;
  matrix.classList.toggle("dense", dense);
  if (!dense) {
    const head = make("tr", {}, make("td", { style: "background:none" }));
    for (const name of names) head.append(make("th", { scope: "col", title: name }, make("span", {}, name)));
    matrix.append(make("thead", {}, head));
  }
  const body = make("tbody");
  data.matrix.forEach((row, truth) => {
    const total = row.reduce((sum, value) => sum + value, 0);
    const line = make("tr", {}, make("th", { scope: "row", title: names[truth] }, names[truth]));
    row.forEach((value, prediction) => {
      const share = total ? 100 * value / total : 0;
      const cell = make("td", { style: `--share:${share.toFixed(2)}%` });
      cell.dataset.truth = truth;
      cell.dataset.prediction = prediction;
      if (share > 50) cell.classList.add("strong");
      if (!dense) cell.textContent = !total ? "·" : share >= 99.95 ? "100" : share >= 0.05 ? share.toFixed(1) : value ? "<0.1" : "0";
      line.append(cell);
    });
    body.append(line);
  });
  matrix.append(body);
  const describe = (event) => {
    const cell = event.target.closest("td[data-truth]");
    if (!cell) return;
    const [truth, prediction] = [Number(cell.dataset.truth), Number(cell.dataset.prediction)];
    const total = data.matrix[truth].reduce((sum, value) => sum + value, 0);
    const value = data.matrix[truth][prediction];
    const share = total ? `, ${(100 * value / total).toFixed(2)} % of ${count(total)}` : "";
    const text = `${names[truth]} predicted as ${names[prediction]}: ${count(value)} pixels${share}`;
    readout.textContent = cell.title = text;
  };
  matrix.addEventListener("pointerover", describe);
  matrix.addEventListener("click", describe);

  // Image browser.
  if (!data.images.length) return;
  const [filter, strip, stage, slider] = ["filter", "strip", "stage", "view"].map(byId);
  const layers = data.views.map((view) => make("img", { alt: view }));
  stage.append(...layers);
  let shown = [];
  let place = 0;

  const classOf = (image, index) => image.classes.find((entry) => entry.index === index);
  const percent = (value) => value === null ? "n/a" : value.toFixed(1);
  const scoreOf = (image) => filter.value === "" ? image.iou : classOf(image, Number(filter.value)).iou;

  filter.append(make("option", { value: "" }, `all (${data.images.length})`));
  names.forEach((name, index) => {
    const having = data.images.filter((image) => classOf(image, index)).length;
    if (having) filter.append(make("option", { value: index }, `${name} (${having})`));
  });

  const drawView = () => {
    const position = Number(slider.value);
    layers.forEach((layer, k) => { layer.style.opacity = k === 0 ? 1 : Math.min(1, Math.max(0, position - k + 1)); });
    const nearest = Math.round(position);
    [...byId("stop-buttons").children].forEach((button, k) => button.setAttribute("aria-pressed", k === nearest));
    slider.setAttribute("aria-valuetext", data.views[nearest]);
    if (shown.length) byId("full").href = shown[place].full[data.views[nearest]];
  };
  const setView = (position) => { slider.value = position; drawView(); };
  data.views.forEach((view, k) => {
    const button = make("button", { type: "button", "aria-pressed": false }, view);
    button.addEventListener("click", () => setView(k));
    byId("stop-buttons").append(button);
  });
  slider.addEventListener("input", drawView);
  // After dragging, the arrow keys belong to the images again; who tabs to the slider keeps them there.
  slider.addEventListener("pointerup", () => slider.blur());

  const showImage = (wanted) => {
    place = Math.min(Math.max(wanted, 0), shown.length - 1);
    const image = shown[place];
    data.views.forEach((view, k) => { layers[k].src = image.views[view]; layers[k].alt = `${view} of ${image.name}`; });
    byId("name").textContent = image.name;
    byId("score").textContent = `${place + 1} of ${shown.length}, image IoU ${percent(image.iou)}, ${image.size[0]} × ${image.size[1]} px`;
    const legend = byId("legend");
    legend.replaceChildren();
    for (const entry of image.classes) {
      const { name, colour } = data.classes[entry.index];
      const figure = make("span", { class: "muted", title: `truth ${count(entry.truth)}, prediction ${count(entry.prediction)} pixels` }, percent(entry.iou));
      legend.append(make("li", {}, swatch(colour), name, figure));
    }
    if (image.ignored > 0) {
      const share = make("span", { class: "muted" }, `${percent(100 * image.ignored)} % of the pixels`);
      legend.append(make("li", {}, make("span", { class: "swatch hatched" }), "ignored", share));
    }
    [...strip.children].forEach((thumb, k) => thumb.setAttribute("aria-selected", k === place));
    const thumb = strip.children[place];
    strip.scrollLeft = thumb.offsetLeft - strip.offsetLeft - (strip.clientWidth - thumb.clientWidth) / 2;
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === shown.length - 1;
    drawView();
  };

  const applyFilter = () => {
    const wanted = filter.value === "" ? null : Number(filter.value);
    shown = data.images.filter((image) => wanted === null || classOf(image, wanted));
    const rank = (image) => scoreOf(image) ?? Infinity;
    shown.sort((a, b) => rank(a) - rank(b));
    strip.replaceChildren(...shown.map((image, k) => {
      const picture = make("img", { src: image.views.image, alt: "" });
      const thumb = make("button", { type: "button", class: "thumb", role: "option", title: image.name }, picture, make("span", {}, `IoU ${percent(scoreOf(image))}`));
      thumb.addEventListener("click", () => showImage(k));
      return thumb;
    }));
    const by = wanted === null ? "image IoU" : `IoU of ${names[wanted]}`;
    const part = data.images.length < data.available
      ? `${data.images.length} of ${count(data.available)} images: the worst of all and the worst of each class` : `all ${data.available} images`;
    byId("shown").textContent = `worst ${by} first; ${part}`;
    showImage(0);
  };
  filter.addEventListener("change", applyFilter);
  byId("previous").addEventListener("click", () => showImage(place - 1));
  byId("next").addEventListener("click", () => showImage(place + 1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, input")) return;
    if (event.key === "ArrowLeft") showImage(place - 1);
    else if (event.key === "ArrowRight") showImage(place + 1);
    else if (/^[1-4]$/.test(event.key)) setView(Number(event.key) - 1);
    else return;
    event.preventDefault();
  });
  applyFilter();
})();
