// The console in a real browser: what an operator does in the first minutes, every page with data, empty and with an
// error, on a desk and on a phone, light and dark, in both languages. Prints one line a check; fails on the first.
//   node console.mjs CONSOLE TOKEN DEVICE PLATFORM DIRECTORY
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [base, token, device, platform, directory] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const check = (what, is) => {
  console.log(`${is ? "ok" : "NOT OK"} ${what}`);
  if (!is) process.exit(1);
};

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// A page on a screen of its own. What it asks of other hosts, and what its policy forbids, is noted.
const open = async (screen) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...screen });
  const page = await context.newPage();
  page.foreign = [];
  page.faults = [];
  page.on("request", (request) => request.url().startsWith(base) || page.foreign.push(request.url()));
  page.on("console", (message) => message.type() === "error" && page.faults.push(message.text()));
  page.on("pageerror", (error) => page.faults.push(String(error)));
  return page;
};

let looks = 0;
const look = async (page, name) => {
  await page.screenshot({ path: `${directory}/${String(++looks).padStart(2, "0")}-${name}.png`, fullPage: true });
  // The policy forbids foreign scripts in the page; the tests' own runs beside it.
  const { result } = await (async () => {
    const session = await page.context().newCDPSession(page);
    await session.send("Page.enable");
    const { frameTree } = await session.send("Page.getFrameTree");
    const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
    await session.send("Runtime.evaluate", { expression: axe, contextId: executionContextId });
    return session.send("Runtime.evaluate", {
      expression: "axe.run().then((r) => JSON.stringify(r.violations.map((v) => v.id + ' ' + v.nodes.map((n) => n.target).join(' '))))",
      contextId: executionContextId,
      awaitPromise: true,
      returnByValue: true,
    });
  })();
  check(`${name}: no accessibility violations ${result.value === "[]" ? "" : result.value}`, result.value === "[]");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth + 1);
  check(`${name}: fits the screen`, !wide);
};

const signIn = async (page) => {
  await page.goto(`${base}/`);
  check("who is not signed in is sent to sign in", page.url() === `${base}/sign-in`);
  await page.fill("#token", token);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${base}/`);
};

// The first minutes, with the keyboard where that is quicker.
const page = await open({ locale: "en-US", permissions: ["clipboard-read", "clipboard-write"] });
await page.goto(`${base}/sign-in`);
await look(page, "sign-in");
await page.fill("#token", "hpns_admin_wrong");
await page.keyboard.press("Enter");
await page.waitForSelector("[role=alert]");
await look(page, "sign-in-refused");
page.faults.length = 0;
await signIn(page);
await look(page, "overview-empty");
await page.keyboard.press("Tab");
check("the first stop of the keyboard is the way past the menu", (await page.textContent(":focus")) === "Skip to content");
await page.goto(`${base}/tenants?search=nobody`);
await look(page, "tenants-empty");
const began = Date.now();
await page.goto(`${base}/tenants/new`);
await look(page, "tenant-new");
await page.fill("#name", "Kim & Söhne <b>");
await page.fill("#contact", "ops@kim.example");
await page.click("main button");
await page.waitForURL(/licences\/new/);
await look(page, "licence-new");
const soon = new Date(Date.now() + 20 * 86_400_000).toISOString().slice(0, 10);
await page.fill("#expires_at", soon);
await page.fill("#terms_version", "2026-11");
await page.fill("#accepted_by", "Kim");
await page.click("main form.card > button");
await page.waitForURL(/tenants\/ten_/);
const tenant = page.url();
await look(page, "tenant-without-key");
await page.click("text=New key");
await page.click("[data-copy]");
const url = await page.inputValue("#push-url");
check("the push URL is copied", (await page.evaluate(() => navigator.clipboard.readText())) === url);
check("a tenant, a licence and a key take less than a minute", Date.now() - began < 60_000);
await look(page, "key");
await page.fill("#platform", platform);
await page.fill("#device", device);
await page.click("form[action='/test-push'] button");
await page.waitForSelector("[role=status]");
const outcome = await page.textContent("[role=status]");
check(`the test push shows each hop: ${outcome}`, /^OK/.test(outcome.trim()) && /queue.*provider.*round trip/.test(outcome));
await look(page, "test-push");
await page.goto(tenant);
check("a name is text, whatever is in it", (await page.textContent("h1")) === "Kim & Söhne <b>");
await look(page, "tenant");

// Changes: with a stale page, with a wrong value, and back again.
const other = await open({ locale: "en-US" });
await signIn(other);
await other.goto(tenant);
await page.fill("#contact", "first@kim.example");
await page.click("text=Save");
await page.waitForURL(tenant);
await other.fill("#contact", "second@kim.example");
await other.click("text=Save");
await other.waitForSelector("[role=alert]");
check("who saves an old page is told", (await other.textContent("h1")) === "Changed in the meantime");
await look(other, "changed-in-the-meantime");
await page.click("text=Suspend");
await page.fill("input[name=reason]", "invoice 4711");
await page.click("button:has-text('Suspend')");
await page.waitForSelector(".state.suspended");
await look(page, "tenant-suspended");
await page.click("text=Resume");
await page.waitForSelector(".state.active");
await page.click("summary:has-text('Revoke')");
await page.click("text=Revoke now");
await page.waitForSelector(".state.revoked");
await page.click("summary:has-text('Forget all devices')");
await page.fill("#erase-name", "somebody else");
await page.click("button:has-text('Forget all devices')");
await page.waitForSelector("[role=alert]");
await look(page, "erase-refused");

// Every page with data.
const pages = ["", "service-level", "tenants", "apps", "queues", "test-push", "audit", "docs"];
for (const path of pages) {
  await page.goto(`${base}/${path}`);
  await look(page, path || "overview");
}
await page.goto(`${tenant}/service-level`);
check("the first lines say whether the promise is kept", /The promise is kept\..*Our faults 0/s.test(await page.textContent("[role=status]")));
await look(page, "tenant-service-level");
await page.goto(`${tenant}/service-level?month=2020-02`);
await look(page, "service-level-of-a-month-without-pushes");
await page.goto(`${base}/audit`);
await page.click("text=Check the whole log");
await page.waitForSelector("[role=status]:has-text('No fault was found in what can be checked.')");
await look(page, "audit-checked");
await page.goto(`${base}/tenants/ten_00000000000000000000000000000000`);
await look(page, "not-found");

// On a phone, in the dark, in Korean.
const phone = await open({ locale: "ko-KR", colorScheme: "dark", viewport: { width: 390, height: 844 }, isMobile: true });
await signIn(phone);
check("a Korean browser gets Korean", (await phone.textContent("h1")).includes("개요"));
for (const path of [...pages, tenant.slice(base.length + 1), `${tenant.slice(base.length + 1)}/service-level`]) {
  await phone.goto(`${base}/${path}`);
  await look(phone, `phone-${path.split("/")[0] || "overview"}`);
}
await phone.goto(`${base}/`);
await phone.click("button:has-text('English')");
await phone.waitForSelector("h1:has-text('Overview')");
check("the language can be chosen", true);
await phone.click("button:has-text('Sign out')");
await phone.waitForURL(`${base}/sign-in`);
await phone.goto(`${base}/tenants`);
check("who is signed out stays out", phone.url() === `${base}/sign-in`);

for (const one of [page, other, phone]) {
  check(`nothing is asked of other hosts ${one.foreign}`, one.foreign.length === 0);
  const faults = one.faults.filter((text) => !/status of 4\d\d/.test(text));
  check(`no errors in the browser ${faults}`, faults.length === 0);
}
await browser.close();
console.log(`${looks} looks`);
