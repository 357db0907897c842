// A Node client that imports `request` and `get` from node:https, and gives them their arguments in each form that they
// take. Prints the status of each request.
import { Agent, get, request } from 'node:https';

const auth = { Authorization: `Bearer ${process.env.CLAUDE_CODE_OAUTH_TOKEN}` };
const body = JSON.stringify({
  model: 'claude-fake-1',
  max_tokens: 10,
  messages: [{ role: 'user', content: 'Reply: A' }],
});
const url = new URL('https://api.anthropic.com/v1/messages');
const one = new Agent({ keepAlive: true, maxSockets: 1 });

function answer(send, ...given) {
  return new Promise((resolve, reject) => {
    const made = send(...given, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    made.on('error', reject);
    if (send === request) made.end(body);
  });
}

const call = { method: 'POST', headers: auth };
console.log(await answer(request, url, { ...call, agent: one }));
console.log(await answer(request, String(url), call));
console.log(await answer(request, { ...call, host: url.hostname, path: url.pathname, agent: false }));
const pairs = Object.entries(auth);
console.log(await answer(request, { ...call, hostname: url.hostname, path: url.pathname, headers: pairs }));
const flat = ['host', 'api.anthropic.com', ...pairs.flat(), 'Content-Length', String(body.length)];
console.log(await answer(request, url, { ...call, headers: flat }));
console.log(await answer(get, 'https://claude.ai/api/hello'));
console.log(await answer(get, new URL('https://console.anthropic.com/v1/unknown?a=b')));
one.destroy();
