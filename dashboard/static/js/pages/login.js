// Logging in: a token, or the secret behind the # of a one-time link.
import { $ } from "../dom.js";
import { loadSession, post } from "../api.js";
import { here } from "../moment.js";

const next = () => {
  const wanted = here().get("next") ?? "/fleet";
  return /^\/(?![/\\])/.test(wanted) ? wanted : "/fleet";
};

async function login(body) {
  try {
    await post("/api/login", body);
    location.replace(next());
  } catch (problem) {
    // a link that was used already still says which page it meant
    if (body.link && here().get("next") && !(await loadSession()).login_required) return location.replace(next());
    $("#login-error").textContent = problem.message;
  }
}

const secret = location.hash.slice(1);
if (secret) {
  history.replaceState({}, "", location.pathname + location.search);
  login({ link: secret });
}
$("#login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("#token").value.trim();
  login(token ? { token } : { name: $("#name").value.trim(), password: $("#password").value });
});
