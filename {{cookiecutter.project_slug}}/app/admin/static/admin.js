// Light or dark as the system prefers; before the first paint, so that nothing flashes.
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const chooseTheme = () => {
  document.documentElement.dataset.bsTheme = prefersDark.matches ? "dark" : "light";
};
chooseTheme();
prefersDark.addEventListener("change", chooseTheme);

// Times in the reader's own zone; their title keeps UTC.
function localizeTimes() {
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    time.textContent = local.format(new Date(time.dateTime));
  }
}

// The rows of a list that are selected: how many, and none without an action.
function countSelected() {
  const all = document.getElementById("select-all");
  if (!all) return;
  const boxes = [...document.querySelectorAll(".select-box")];
  const button = document.getElementById("actions");
  const update = () => {
    const count = boxes.filter((box) => box.checked).length;
    button.disabled = count === 0;
    button.querySelector("[data-selected]").textContent = count ? `(${count})` : "";
    all.checked = count === boxes.length;
    all.indeterminate = count > 0 && count < boxes.length;
  };
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    update();
  });
  for (const box of boxes) box.addEventListener("change", update);
  update();
}

document.addEventListener("DOMContentLoaded", () => {
  localizeTimes();
  countSelected();
});
