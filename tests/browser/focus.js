// What the keyboard can reach, and where it is.
function label(element) {
  const name = element.getAttribute("aria-label") || element.textContent;
  return element.tagName.toLowerCase() + " " + name.trim().replace(/\s+/g, " ").slice(0, 60);
}
function focusable() {
  const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
  return all.filter((element) => !element.closest("dialog:not([open])") && !element.disabled).filter((element) => element.getAttribute("tabindex") !== "-1" && element.checkVisibility());
}
function at() {
  const active = document.activeElement;
  if (!active || active === document.body) return null;
  const style = getComputedStyle(active);
  const box = active.getBoundingClientRect();
  let visible = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  const drawn = active.tagName === "a" ? active.querySelector(".box") : null;
  if (drawn) visible = parseFloat(getComputedStyle(drawn).strokeWidth) >= 3;
  visible = visible && box.bottom > 0 && box.top < innerHeight && box.width > 0;
  return {label: label(active), visible};
}
