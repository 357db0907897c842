// The SDK of the Model Context Protocol for Node, as its manual has it: a session with one call, by a login that is
// stored in a file. argv: that file, and the server's URL. Prints what the tool said.
const fs = require('node:fs');
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

const [file, url] = process.argv.slice(2);
const load = () => JSON.parse(fs.readFileSync(file, 'utf8'));
const authProvider = {
  redirectUrl: 'http://localhost:3030/callback',
  clientMetadata: { client_name: 'test', redirect_uris: ['http://localhost:3030/callback'] },
  clientInformation: () => ({ client_id: load().client_id, client_secret: load().client_secret }),
  tokens: () => load().tokens,
  saveTokens: (tokens) => fs.writeFileSync(file, JSON.stringify({ ...load(), tokens })),
  redirectToAuthorization: () => { throw new Error('a person would have to log in'); },
  saveCodeVerifier: () => {},
  codeVerifier: () => '',
};

(async () => {
  const client = new Client({ name: 'test', version: '1.0.0' });
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { authProvider }));
  const result = await client.callTool({ name: 'echo', arguments: { text: 'hi' } });
  console.log(result.content[0].text);
  await client.close();
})();
