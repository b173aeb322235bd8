// What is drawn follows the controls. They are drawn anew with each picture, so what they say is kept here.
(() => {
  const said = { kind: "classes", opacity: "50", curtain: "0", hidden: new Map() };
  const results = () => document.querySelectorAll(".dz-result");

  // The last view that was asked for is loaded; those between are left out while one is on its way.
  const load = async (image, address) => {
    image.wanted = address;
    if (image.busy) return;
    image.busy = true;
    const error = image.closest(".dz-run").querySelector(".dz-error");
    while (image.wanted !== null) {
      const next = image.wanted;
      image.wanted = null;
      const answer = await fetch(next).catch(() => null);
      error.hidden = answer !== null && answer.ok;
      if (answer === null || !answer.ok) continue;
      const url = URL.createObjectURL(await answer.blob());
      image.src = url;
      await image.decode().catch(() => null);
      if (image.shown) URL.revokeObjectURL(image.shown);
      image.shown = url;
      image.dataset.view = next;
    }
    image.busy = false;
  };

  const draw = (result) => {
    for (const radio of result.querySelectorAll("[name=dz-kind]")) radio.checked = radio.value === said.kind;
    result.dataset.kind = said.kind;
    const opacity = result.querySelector("#dz-opacity");
    opacity.value = said.opacity;
    opacity.disabled = said.kind !== "classes";
    result.querySelector("output").textContent = `${said.opacity} %`;
    for (const run of result.querySelectorAll(".dz-run")) {
      const stage = run.querySelector(".dz-stage");
      if (!stage) continue;
      stage.style.setProperty("--at", said.curtain);
      stage.querySelector(".dz-curtain").value = said.curtain;
      const hidden = said.hidden.get(run.dataset.run) ?? new Set();
      for (const box of run.querySelectorAll(".dz-legend input")) box.checked = !hidden.has(box.value);
      const of = `${result.dataset.picture}/${run.dataset.run}`;
      const view = `opacity=${said.opacity}&hidden=${[...hidden].join(",")}`;
      run.querySelector(".dz-overlay").setAttribute("href", `overlay/${of}?view=classes&${view}`);
      const drawn = stage.querySelector(".dz-drawn");
      const address = `drawn/${of}?view=${said.kind}&${view}`;
      if (drawn.wanted !== address && (drawn.dataset.view ?? drawn.getAttribute("src")) !== address) load(drawn, address);
    }
  };

  document.addEventListener("input", (event) => {
    const from = event.target, run = from.closest(".dz-run");
    if (from.matches(".dz-curtain")) said.curtain = from.value;
    else if (from.matches("#dz-opacity")) said.opacity = from.value;
    else if (from.matches("[name=dz-kind]")) said.kind = from.value;
    else if (from.matches(".dz-legend input")) {
      const hidden = said.hidden.get(run.dataset.run) ?? new Set();
      if (from.checked) hidden.delete(from.value); else hidden.add(from.value);
      said.hidden.set(run.dataset.run, hidden);
    } else return;
    results().forEach(draw);
  });

  new MutationObserver(() => results().forEach((result) => {
    if (result.dataset.ready) return;
    result.dataset.ready = "yes";
    draw(result);
  })).observe(document.documentElement, { childList: true, subtree: true });
})();
