// A Node client that speaks HTTP by `fetch`: its login from the folder, a refresh, then a streamed call. With
// AS_REQUEST, each `fetch` is given a Request. Prints the status of each, and the text.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const file = join(process.env.CLAUDE_CONFIG_DIR, '.credentials.json');
const login = JSON.parse(readFileSync(file, 'utf8')).claudeAiOauth;
const ask = (url, init) => (process.env.AS_REQUEST ? fetch(new Request(url, init)) : fetch(new URL(url), init));

const token = await ask('https://platform.claude.com/v1/oauth/token', {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({
    grant_type: 'refresh_token',
    refresh_token: login.refreshToken,
    client_id: '9d1c250a-e61b-44d9-88ed-5944d1962f5e',
    scope: 'user:inference user:profile',
  }),
});
const issued = await token.json();
if (token.ok) {
  login.accessToken = issued.access_token;
  login.refreshToken = issued.refresh_token;
  login.expiresAt = Date.now() + issued.expires_in * 1000;
  writeFileSync(`${file}.new`, JSON.stringify({ claudeAiOauth: login }), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
const call = await ask('https://api.anthropic.com/v1/messages?beta=true', {
  method: 'POST',
  headers: { Authorization: `Bearer ${login.accessToken}`, 'Content-Type': 'application/json' },
  body: JSON.stringify({
    model: 'claude-fake-1',
    max_tokens: 10,
    stream: true,
    messages: [{ role: 'user', content: 'Reply: A' }],
  }),
  signal: AbortSignal.timeout(30_000),
});
const events = (await call.text()).split('\n').filter((line) => line.startsWith('data: '));
const text = events.map((line) => JSON.parse(line.slice(6)).delta?.text ?? '').join('');
console.log(token.status, call.status, text);
