// Token endpoints in Node, as processes: `node servers.mjs NAME CLIENTS`, with the packages in NODE_PATH's folder.
// The first line of the output is JSON: {"port": ..., "tokens": [...], "path": ...}. Ends when its standard input does.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [name, clients] = process.argv.slice(2);
const folder = process.env.SPEED_NODE_MODULES;
const load = (entry) => import(pathToFileURL(join(folder, entry)).href);
const tokens = [...Array(Number(clients)).keys()].map((number) => `rt-${number}`);

const servers = {
  async "oauth2-mock-server"() {
    const { OAuth2Server } = await load("oauth2-mock-server/dist/index.mjs");
    const server = new OAuth2Server();
    await server.issuer.keys.generate("RS256");
    await server.start(0, "127.0.0.1");
    return { port: server.address().port, path: "/token" };
  },
  async mockttp() {
    const { getLocal } = createRequire(join(folder, "mockttp/package.json"))("mockttp");
    const good = new Set(tokens);
    let number = good.size;
    const server = getLocal();
    await server.start();
    await server.forPost("/v1/oauth/token").thenCallback(async (request) => {
      const { refresh_token } = await request.body.getJson();
      if (!good.delete(refresh_token)) return { status: 400, json: { error: "invalid_grant" } };
      const refresh = `rt-${number++}`;
      good.add(refresh);
      const body = JSON.stringify({ access_token: "at", refresh_token: refresh, token_type: "Bearer", expires_in: 3600 });
      // Without a length it closes the connection after the reply.
      const headers = { "content-type": "application/json", "content-length": String(body.length) };
      return { status: 200, headers, body };
    });
    return { port: server.port, path: "/v1/oauth/token" };
  },
};

console.log(JSON.stringify({ ...(await servers[name]()), tokens }));
process.stdin.on("end", () => process.exit(0)).resume();
