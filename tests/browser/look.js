// What there is to see on the page, and what is wrong with it.
function channels(color) {
  const found = color.match(/[\d.]+/g).map(Number);
  return {rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1};
}
function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(one, other) {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}
function background(element) {
  for (let at = element; at; at = at.parentElement) {
    const box = at.tagName === "g" ? at.querySelector(":scope > .box") : null;
    const style = getComputedStyle(box || at);
    const {rgb, alpha} = channels(box ? style.fill : style.backgroundColor);
    if (alpha === 1) return rgb;
  }
  return [255, 255, 255];
}
const faint = [];
let texts = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.closest("title, .skip") || !element.checkVisibility()) continue;
  texts += 1;
  const style = getComputedStyle(element);
  const color = channels(element.closest("svg") ? style.fill : style.color).rgb;
  const ratio = contrast(color, background(element));
  if (ratio < 4.5) faint.push([walker.currentNode.data.trim().slice(0, 30), ratio.toFixed(2)]);
}
const wide = [...document.body.querySelectorAll("*")]
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, pre"))
  .map((element) => element.tagName + "." + element.getAttribute("class"));
const nameless = [...document.querySelectorAll("table")].filter((table) => !table.caption)
  .concat([...document.querySelectorAll("section")].filter((part) => !part.querySelector("h2")))
  .concat([...document.querySelectorAll("[role=region], [role=img]")].filter((part) => !part.getAttribute("aria-label")))
  .concat([...document.querySelectorAll("th")].filter((head) => !head.scope))
  .map((element) => element.outerHTML.slice(0, 80));
const dead = [...document.querySelectorAll("a")].map((link) => link.getAttribute("href"))
  .filter((href) => !href.startsWith("#") || !(document.getElementById(href.slice(1)) || /^#step-\d+$/.test(href)));
return {
  title: document.title, texts, faint, nameless, dead, wide: wide.slice(0, 5),
  width: [document.documentElement.scrollWidth, innerWidth],
  scripts: document.scripts.length, others: document.querySelectorAll("iframe, link, object, embed, img:not([src^='data:image/'])").length,
};
