// A page that is renewed while tasks run: it loads itself again, and is where it was.

function keep() {
  const folds = [...document.querySelectorAll("main details, #filter")].map((each) => each.open);
  const off = boxes.filter((box) => !box.checked).map((box) => [box.dataset.factor, box.value]);
  history.replaceState({ folds, off, left: scrollX, top: scrollY, inner: panel.scrollTop }, "");
}

function restore(state) {
  const folds = [...document.querySelectorAll("main details, #filter")];
  if (folds.length === state.folds.length) folds.forEach((each, i) => { each.open = state.folds[i]; });
  for (const box of boxes) box.checked = !state.off.some(([factor, level]) => factor === box.dataset.factor && level === box.value);
  if (boxes.length) filter();
  scrollTo({ left: state.left, top: state.top, behavior: "instant" });
  panel.scrollTop = state.inner;
}

const refresh = Number(document.body.dataset.refresh || 0);
if (history.state && history.state.folds) {
  restore(history.state);
  history.replaceState(null, "");
}
if (refresh) {
  history.scrollRestoration = "manual";
  const again = () => {
    // Who selects a text or has the page in the background is not disturbed.
    if (document.hidden || String(getSelection())) {
      setTimeout(again, 1000);
      return;
    }
    keep();
    location.reload();
  };
  setTimeout(again, refresh * 1000);
}
