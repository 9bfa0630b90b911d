// Asking a person: one native dialog for every form; what was half typed stays while the page goes on living.
import { $, h } from "./dom.js";
import { Problem } from "./api.js";

/**
 * Ask with a form. `fields`: [{name, label, type, required, options, match, value, hint}]; `match` is what must be typed.
 * `send` gets the values and may throw a Problem, which is shown in the dialog. Resolves with its answer, or null.
 */
export function askFor({ title, text = [], fields = [], ok = "OK", danger = false, send }) {
  const dialog = $("#ask");
  const form = $("#ask-form");
  $("#ask-title").textContent = title;
  const inputs = fields.map(control);
  $("#ask-body").replaceChildren(...[text].flat().map((line) => (line instanceof Node ? line : h("p", {}, line))), ...inputs.map((one) => one.label));
  const button = $("#ask-ok");
  button.textContent = ok;
  button.className = danger ? "danger" : "primary";
  $("#ask-error").textContent = "";
  return new Promise((resolve) => {
    const done = (answer) => {
      form.removeEventListener("submit", submit);
      $("#ask-cancel").removeEventListener("click", cancel);
      dialog.removeEventListener("close", cancelled);
      if (dialog.open) dialog.close();
      resolve(answer);
    };
    const cancel = () => done(null);
    const cancelled = () => done(null);
    const submit = async (event) => {
      event.preventDefault();
      const values = {};
      for (const { field, input } of inputs) {
        const value = field.type === "checkbox" ? input.checked : input.value.trim();
        if (field.required && !value) return wrong(`${field.label}: this is needed`, input);
        if (field.match && value !== field.match) return wrong(`type ${field.match} to confirm`, input);
        if (value !== "") values[field.name] = field.type === "number" ? Number(value) : value;
      }
      button.disabled = true;
      try {
        done(await send(values));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        wrong(error.message + (error.requestId ? ` (request id ${error.requestId})` : ""));
      } finally {
        button.disabled = false;
      }
    };
    form.addEventListener("submit", submit);
    $("#ask-cancel").addEventListener("click", cancel);
    dialog.addEventListener("close", cancelled);
    dialog.showModal();
    // what must be filled in comes first; where nothing must, Enter decides
    (inputs.find((one) => one.field.required)?.input ?? button).focus();
  });
}

function wrong(text, input) {
  $("#ask-error").textContent = text;
  input?.focus();
}

function control(field) {
  const common = { name: field.name, id: `ask-${field.name}`, autocomplete: "off", required: Boolean(field.required) };
  let input;
  if (field.options) input = h("select", common, field.options.map((word) => h("option", { value: word }, word.replaceAll("_", " "))));
  else if (field.type === "long") input = h("textarea", { ...common, rows: "3", maxlength: "500" });
  else input = h("input", { ...common, type: field.type ?? "text", maxlength: "500", spellcheck: "false" });
  if (field.value !== undefined) input.value = field.value;
  return { field, input, label: h("label", {}, field.label, input, field.hint ? h("small.quiet", {}, field.hint) : null) };
}

/** A short message; failures stay longer. */
export function toast(text, { bad = false } = {}) {
  const box = h("div.toast", { class: bad ? "bad" : "" }, text);
  $("#toasts").append(box);
  setTimeout(() => box.remove(), bad ? 10000 : 5000);
}
