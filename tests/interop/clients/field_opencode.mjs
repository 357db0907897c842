// opencode-anthropic-auth: several requests of one process at once, through the fetch that it gives to opencode.
// Arguments: the folder of node_modules, the file of the login, the number of requests.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, file, requests] = process.argv.slice(2);
const { AnthropicAuthPlugin } = await import(pathToFileURL(join(modules, "opencode-anthropic-auth/index.mjs")).href);
const login = JSON.parse(readFileSync(file, "utf8")).tokens;
let auth = { type: "oauth", refresh: login.refresh_token, access: login.access_token, expires: 1 };

const client = { auth: { set: async ({ body }) => { auth = body; } } };
const plugin = await AnthropicAuthPlugin({ client });
const loaded = await plugin.auth.loader(async () => ({ ...auth }), { models: {} });
const body = JSON.stringify({ model: "claude-fake", max_tokens: 9, messages: [{ role: "user", content: "hi" }] });
const ask = () => loaded.fetch("https://api.anthropic.com/v1/messages", { method: "POST", body, headers: { "content-type": "application/json" } });
await Promise.allSettled([...Array(Number(requests)).keys()].map(ask));
