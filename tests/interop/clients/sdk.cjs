// The official SDK for Node, as its manual has it. argv: the base URL ("" for the SDK's own choice). Prints the text of
// a call and of a streamed one.
const Anthropic = require('@anthropic-ai/sdk');

const [base] = process.argv.slice(2);
const client = new Anthropic({
  apiKey: null,
  authToken: process.env.CLAUDE_CODE_OAUTH_TOKEN,
  ...(base ? { baseURL: base } : {}),
});
const about = { model: 'claude-fake-1', max_tokens: 10, messages: [{ role: 'user', content: 'Reply: A' }] };

(async () => {
  const message = await client.messages.create(about);
  console.log(message.content[0].text);
  const stream = client.messages.stream(about);
  console.log(await stream.finalText());
})();
