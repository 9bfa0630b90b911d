// Logging in: a token, or the secret behind the # of a one-time link.
import { $ } from "../dom.js";
import { post } from "../api.js";
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
