// Asks the service where no fake is known, by each way; prints why that fails.
const https = require('node:https');

fetch('https://claude.ai/').catch((error) => console.log(error.message));
try {
  https.get('https://API.anthropic.com./v1/models');
} catch (error) {
  console.log(error.message);
}
