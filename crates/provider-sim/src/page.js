"use strict";
// Asks for what is new and shows it. Everything that came over the wire is set as text, never as HTML.

const shown = 100;
let last = 0;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function readable(notification) {
  const body = notification.body || {};
  if (notification.provider === "fcm") {
    const data = (body.message || {}).data || {};
    return { title: data.channel_name || data.sender_name || data.type, text: data.message, kind: data.type, badge: data.badge };
  }
  const aps = body.aps || {};
  const alert = typeof aps.alert === "object" && aps.alert ? aps.alert : { body: aps.alert };
  const call = notification.headers["apns-push-type"] === "voip";
  return {
    title: alert.title || body.channel_name || (call ? "Call from " + (body.sender_name || "unknown") : body.type),
    text: alert.body,
    kind: call ? "call" : body.type,
    badge: aps.badge,
  };
}

function card(notification) {
  const { title, text, kind, badge } = readable(notification);
  const item = element("li");
  const head = element("div", "title");
  head.append(element("span", "", title || "(no title)"));
  head.append(element("time", "", new Date(notification.received_at_ms).toLocaleTimeString()));
  item.append(head);
  item.append(text ? element("p", "", text) : element("p", "quiet", "Shows nothing."));
  const meta = element("p", "meta", `${kind || "no type"}${badge === undefined ? "" : ", badge " + badge} · connection ${notification.connection} · `);
  const good = notification.status === 200;
  meta.append(element("span", good ? "good" : "bad", good ? "accepted" : `answered ${notification.status || "nothing"}`));
  item.append(meta);
  const details = element("details");
  details.append(element("summary", "", "Request"));
  const request = { path: notification.path, headers: notification.headers, body: notification.body };
  details.append(element("pre", "", JSON.stringify(request, null, 2)));
  item.append(details);
  return item;
}

async function refresh() {
  try {
    const [fresh, stats] = await Promise.all(["/sim/notifications?after=" + last, "/sim/stats"].map(async (path) => (await fetch(path)).json()));
    for (const notification of fresh) {
      last = Math.max(last, notification.number);
      const list = document.getElementById(notification.provider);
      list.prepend(card(notification));
      while (list.children.length > shown) list.lastChild.remove();
    }
    const labels = { accepted: "accepted", apns_requests: "APNs requests", fcm_requests: "FCM requests", apns_connections: "APNs connections", fcm_connections: "FCM connections", token_requests: "token requests", duplicates: "duplicates" };
    document.getElementById("stats").replaceChildren(...Object.entries(labels).map(([key, label]) => {
      const pair = element("div");
      pair.append(element("dt", "", label), element("dd", "", stats[key]));
      return pair;
    }));
    document.title = `hpns simulator (${stats.accepted})`;
  } catch {
    document.title = "hpns simulator (not running)";
  }
  setTimeout(refresh, 500);
}

refresh();
