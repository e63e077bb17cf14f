// Actions of a list: the form sends the ids of the rows that are ticked.
document.addEventListener("show.bs.modal", (event) => {
  const form = event.target.querySelector("form[data-selection]");
  if (!form) return;
  const ticked = [...document.querySelectorAll(".select-box:checked")];
  form.elements.pks.value = ticked.map((box) => box.previousElementSibling.value).join(",");
  form.querySelector("[data-selected]").textContent =
    ticked.length === 0 ? "Tick at least one row first." : `Rows: ${ticked.length}`;
  form.querySelector("[type=submit]").disabled = ticked.length === 0;
});
