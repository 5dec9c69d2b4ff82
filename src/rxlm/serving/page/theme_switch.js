// Dark or light: the system's choice until the reader makes one.

import { saved } from "./saved.js";
import { change } from "./state.js";

const system = matchMedia("(prefers-color-scheme: dark)");
system.addEventListener("change", () => change({}));

export const theme = () => document.documentElement.dataset.theme ?? "system";

export const isDark = () => (theme() === "system" ? system.matches : theme() === "dark");

export function chooseTheme(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  saved.set("theme", choice === "system" ? null : choice);
  change({});
}
