// Sampling settings and the page's own, kept in the browser. An empty field takes the server's value.

import { html, useState } from "./vendor/htm-preact.js";
import { Buttons, Dialog } from "./dialog.js";
import { CONSENT, withdrawConsent } from "./feedback.js";
import { saveSettings, state } from "./state.js";
import { chooseTheme, theme } from "./theme_switch.js";

const OTHERS = { top_k: "top k", min_p: "min p", repetition_penalty: "repetition penalty" };

export function Settings({ close }) {
  const [settings, setSettings] = useState(state.settings);
  const [chosen, setChosen] = useState(theme());
  const sampling = state.status?.sampling ?? {};
  const put = (name, value) => setSettings({ ...settings, [name]: value });
  const number = (name, label, hint, limits) => html`<label class="setting">
    <span>${label}<small>${hint}</small></span>
    <input class="field" type="number" inputmode="decimal" value=${settings[name] ?? ""}
      placeholder=${sampling[name] ?? "none"} ...${limits}
      onInput=${(event) => put(name, event.target.value === "" ? null : Number(event.target.value))} />
  </label>`;
  const save = (event) => {
    event.preventDefault();
    saveSettings(settings);
    chooseTheme(chosen);
    close();
  };
  const fixed = Object.entries(OTHERS)
    .filter(([name]) => sampling[name] !== undefined)
    .map(([name, label]) => `${label} ${sampling[name]}`);
  return html`<${Dialog} title="Settings" close=${close}>
    <form onSubmit=${save}>
      <h2>Sampling</h2>
      ${number("temperature", "Temperature", "0 always takes the likeliest token", { min: 0, max: 2, step: 0.05 })}
      ${number("top_p", "Top p", "share of the likeliest tokens to draw from", { min: 0.01, max: 1, step: 0.01 })}
      ${number("max_output_tokens", "Longest answer", "tokens", { min: 1, max: state.status?.max_seq_len, step: 1 })}
      ${number("seed", "Seed", "the same seed gives the same answer", { min: 0, step: 1 })}
      ${fixed.length > 0 && html`<p class="quiet">Set by the server: ${fixed.join(", ")}.</p>`}
      <label class="line">Instructions for new conversations
        <textarea class="field" rows="2" value=${settings.instructions ?? ""}
          onInput=${(event) => put("instructions", event.target.value)} /></label>
      <h2>Page</h2>
      <label class="setting"><span>Colours</span>
        <select class="field" value=${chosen} onChange=${(event) => setChosen(event.target.value)}>
          ${["system", "light", "dark"].map((name) => html`<option key=${name} value=${name}
            selected=${name === chosen}>${name}</option>`)}
        </select></label>
      <label class="setting"><span>Single-key shortcuts<small>off: only with a modifier key</small></span>
        <input type="checkbox" checked=${!settings.noLetters}
          onChange=${(event) => put("noLetters", !event.target.checked)} /></label>
      ${state.consent && html`<p class="quiet">${CONSENT} <button type="button" class="link"
        onClick=${withdrawConsent}>Ask me again</button></p>`}
      <p class="quiet">${state.status?.model}, rxlm ${state.status?.version}</p>
      <div class="buttons between"><button type="button" class="plain"
        onClick=${() => setSettings({})}>Server's values</button>
        <${Buttons} close=${close} action="Save" /></div>
    </form>
  <//>`;
}
