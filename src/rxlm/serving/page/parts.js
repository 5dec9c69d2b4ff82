// Small parts of many views: icons, buttons, menus, markdown, figures.

import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { toHtml } from "./markdown.js";

// Drawn on 24 x 24 with round lines of width 1.75.
const PATHS = {
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  branches: "M7 5v14M7 14c0-4 10-2 10-7M5 5h4M15 7h4M5 19h4",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  down: "M7 14V4H4v10zM7 13l4 7c2 0 2.5-1.5 2-5h5c1.5 0 2-1 1.8-2.2l-1.2-7C18.4 4.6 17.6 4 16.6 4H7",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  forward: "M9 5l7 7-7 7",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5v.01",
  memory:
    "M5 5h4v4H5zM10 5h4v4h-4zM15 5h4v4h-4zM5 10h4v4H5zM10 10h4v4h-4zM15 10h4v4h-4zM5 15h4v4H5zM10 15h4v4h-4zM15 15h4v4h-4z",
  menu: "M4 7h16M4 12h16M4 17h16",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  more: "M5.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0M11.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0M17.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  send: "M12 19V5M6 11l6-6 6 6",
  settings: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 3v1M12 20v1M3 12h1M20 12h1M5.6 5.6l.8.8M17.6 17.6l.8.8M5.6 18.4l.8-.8M17.6 6.4l.8-.8",
  undo: "M8 5L4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3",
  up: "M7 10v10H4V10zM7 11l4-7c2 0 2.5 1.5 2 5h5c1.5 0 2 1 1.8 2.2l-1.2 7c-.2 1.2-1 1.8-2 1.8H7",
  upload: "M12 16V5M7 10l5-5 5 5M5 19h14",
};

export const Icon = ({ name }) =>
  html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;

// shortcut: told in the tooltip only; keyboard.js holds the keys.
export function IconButton({ icon, label, shortcut, pressed, text, ...rest }) {
  const title = shortcut ? `${label} (${shortcut})` : label;
  return html`<button type="button" class="icon-button" title=${title} aria-label=${label}
    aria-pressed=${pressed} ...${rest}>
    <${Icon} name=${icon} />${text}
  </button>`;
}

// items: [{label, run, disabled?, danger?}]
export function Menu({ label, items }) {
  const [isOpen, setOpen] = useState(false);
  const holder = useRef();
  useEffect(() => {
    if (!isOpen) return undefined;
    const outside = (event) => holder.current.contains(event.target) || setOpen(false);
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    holder.current.querySelector(".menu-items").scrollIntoView({ block: "nearest" });
    holder.current.querySelector(".menu-items button:not(:disabled)")?.focus();
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [isOpen]);
  // The items go away, so the focus returns to the menu's button first.
  const choose = (item) => {
    setOpen(false);
    holder.current.querySelector("button").focus();
    item.run();
  };
  const keys = (event) => {
    if (!isOpen) return;
    const buttons = [...holder.current.querySelectorAll(".menu-items button:not(:disabled)")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      setOpen(false);
      holder.current.querySelector("button").focus();
    } else if (step) {
      buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length).focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="menu" ref=${holder} onKeyDown=${keys}>
    <${IconButton} icon="more" label=${label} aria-expanded=${isOpen ? "true" : "false"}
      onClick=${() => setOpen(!isOpen)} />
    ${
      isOpen &&
      html`<div class="menu-items">
      ${items.filter(Boolean).map(
        (
          item,
        ) => html`<button type="button" key=${item.label} class=${item.danger ? "danger" : ""} disabled=${item.disabled}
        onClick=${() => choose(item)}>${item.label}</button>`,
      )}
    </div>`
    }
  </div>`;
}

export function Markdown({ text }) {
  const parsed = useMemo(() => ({ __html: toHtml(text) }), [text]);
  return html`<div class="markdown" dangerouslySetInnerHTML=${parsed} />`;
}

// A text box as high as its text, up to a limit in the style sheet.
export function GrowingText({ value, inputRef, ...rest }) {
  const own = useRef();
  const box = inputRef ?? own;
  useEffect(() => {
    box.current.style.height = "auto";
    box.current.style.height = `${box.current.scrollHeight + 2}px`;
  }, [value]);
  return html`<textarea ref=${box} rows="1" value=${value} ...${rest} />`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "";
  const units = ["bytes", "kB", "MB", "GB"];
  const unit = Math.min(3, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  const value = count / 1000 ** unit;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toPrecision(2)} ${units[unit]}`;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export const timeOf = (seconds) =>
  new Date(1000 * seconds).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard's own interface exists on https and localhost only.
    const box = document.createElement("textarea");
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
}
