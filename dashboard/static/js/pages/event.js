import { $, fill, h } from "../dom.js";
import { livePage, titled } from "../page.js";
import { actor, copyable, time, words } from "../format.js";
import { eventPage, ownId, twin } from "../moment.js";
import { facts, incidentLink } from "../parts.js";

const id = ownId();
function draw({ event: one, why }) {
  titled({ name: `${one.id} · Immune` });
  const chain = why.chain.filter((link) => link.id !== one.id);
  fill($("#event"), h("h1", {}, `${one.id}: ${words(one.kind)}`), h("p", {}, one.says), facts(
    ["When", time(one.at, { full: true })], ["About", one.subject], ["Who", actor(one.actor)], one.incident ? ["Incident", incidentLink(one.incident)] : null,
    one.rule ? ["Rule", one.rule] : null, ["Policy", why.policy_version], why.undo ? ["Undo", h("code", {}, why.undo)] : null, ["Hash", copyable(one.hash)],
  ), h("h2", {}, "Caused by"), chain.length ? h("ol", {}, chain.map((link) => h("li", {}, h("a", { href: eventPage(link.id.slice(1)) }, link.id), " ", link.says))) : h("p.quiet", {}, "Nothing in the journal: it was the first of its chain."), h("h2", {}, "Raw"), h("pre", { tabindex: "0" }, JSON.stringify(one, null, 2)));
}
livePage({ path: () => twin(`/api/journal/${encodeURIComponent(id)}`), draw, into: "#event", concerns: () => false });
