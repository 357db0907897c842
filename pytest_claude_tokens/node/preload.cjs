// Redirects a Node program's requests for the hosts of the Claude service to the fake service on loopback.
//
// Loaded before the program, by `NODE_OPTIONS=--require …/preload.cjs`. Node's `fetch` ignores HTTPS_PROXY unless a
// variable turns it on, and older releases have no such variable; so `fetch`, `http.request` and `https.request` are
// wrapped, and with them the libraries that are built on these. A request for any other host is passed on untouched.
// The npm package `undici` has a `fetch` of its own, which is not covered; nor is HTTP/2. What is not redirected fails:
// look-ups of those hosts, of all below the real domains, and of those in CLAUDE_TOKENS_HOSTS, and sockets to them.
//
// The address of the fake is that of CLAUDE_TOKENS_URL, else of ANTHROPIC_BASE_URL, with the worker's prefix in its
// path (`http://127.0.0.1:PORT/w/w0`), unless CLAUDE_TOKENS_WORKER names the worker. Where neither is on loopback, a
// request for those hosts fails: it never leaves.

'use strict';

const dns = require('node:dns');
const http = require('node:http');
const https = require('node:https');
const { syncBuiltinESMExports } = require('node:module');
const net = require('node:net');
const { domainToASCII, urlToHttpOptions } = require('node:url');

// As in `hosts=`: a name, a name and a port, or all names below one.
const KNOWN = ['api.anthropic.com', 'platform.claude.com', 'console.anthropic.com', 'claude.ai'];
const FURTHER = (process.env.CLAUDE_TOKENS_HOSTS ?? '').split(',').filter(Boolean);
const HOSTS = [...KNOWN, ...FURTHER].map(readHost);
const REAL = ['anthropic.com', 'claude.com', 'claude.ai'];
const VARIABLES = ['CLAUDE_TOKENS_URL', 'ANTHROPIC_BASE_URL'];
const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];
const INSTALLED = Symbol.for('claude-tokens.preload');
// Options that set where a request goes, and over which connection. They are dropped: the request goes to the fake.
const WHITHER = new Set([
  '_defaultAgent', 'agent', 'createConnection', 'defaultPort', 'family', 'hash', 'host', 'hostname', 'href',
  'localAddress', 'lookup', 'path', 'pathname', 'port', 'protocol', 'search', 'servername',
]);

// Read once, before the program can change its environment.
const fake = VARIABLES.map((name) => onLoopback(process.env[name])).find((url) => url !== null);
const worker = process.env.CLAUDE_TOKENS_WORKER;

function parse(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

function onLoopback(text) {
  const url = parse(text);
  return url?.protocol === 'http:' && LOOPBACK.includes(url.hostname) ? url : null;
}

function readHost(text) {
  const [, name, port] = /^(\[.*\]|[^:]*)(?::(\d+))?$/.exec(text) ?? [null, text];
  return { name: name.replace(/^\[(.*)\]$/, '$1'), port };
}

// The name as a resolver is asked for it: one name has many spellings. Empty where it has no such form.
function canonical(hostname) {
  const name = String(hostname).replace(/^\[(.*)\]$/, '$1');
  return net.isIP(name) ? name.toLowerCase() : domainToASCII(name.replace(/\0.*$/s, '')).replace(/\.+$/, '');
}

function matches(host, name) {
  return host.name.startsWith('*.') ? name.endsWith(host.name.slice(1)) : name === host.name;
}

function isKnown(hostname, port) {
  const name = canonical(hostname ?? '');
  return HOSTS.some((host) => matches(host, name) && (!host.port || String(port) === host.port));
}

// What may never leave, at whatever port. What has no canonical form could be read as anything.
function isGuarded(hostname) {
  if (typeof hostname !== 'string' || hostname === '') return false;
  const name = canonical(hostname);
  if (name === '') return /[^\x21-\x7e]|\\/.test(hostname);
  if (name === 'localhost' || name === '::1' || (net.isIPv4(name) && name.startsWith('127.'))) return false;
  return REAL.some((real) => name === real || name.endsWith(`.${real}`)) || HOSTS.some((host) => matches(host, name));
}

function refusal(hostname) {
  return new Error(`refused to reach ${hostname}: claude-tokens answers for it in fetch, http.request and https.request`);
}

// The same path at the fake, behind the worker's prefix. Throws where there is no fake: the request must not leave.
function moved(hostname, path) {
  if (fake === undefined) {
    throw new Error(`${hostname} is not asked: neither ${VARIABLES.join(' nor ')} is a URL on loopback`);
  }
  return (worker ? `/w/${encodeURIComponent(worker)}` : fake.pathname.replace(/\/+$/, '')) + path;
}

// `fetch` drops a Host header that it is given, so the header is set in the dispatcher, through which `fetch` sends its
// requests and by which it finds proxies.
const GLOBAL = ['undici.globalDispatcher.2', 'undici.globalDispatcher.1'].map((name) => Symbol.for(name));

function portOf(url) {
  return url?.port || (url?.protocol === 'https:' ? 443 : 80);
}

function dispatcherTo(real) {
  const dispatch = (asked, handler) => {
    const url = parse(asked.origin);
    if (!isKnown(url?.hostname, portOf(url))) return real.dispatch(asked, handler); // a redirect led to another host
    const path = moved(url.hostname, asked.path);
    const headers = withHost(asked.headers, url.hostname);
    return real.dispatch({ ...asked, origin: fake.origin, path, headers }, handler);
  };
  return { dispatch };
}

function wrapFetch(original) {
  return async function fetch(input, init) {
    const url = parse(input instanceof Request ? input.url : input);
    if (!isKnown(url?.hostname, portOf(url))) return original(input, init);
    moved(url.hostname, ''); // throws before anything is done
    const real = init?.dispatcher ?? globalThis[GLOBAL.find((name) => globalThis[name])];
    return original(input, { ...init, dispatcher: dispatcherTo(real) });
  };
}

// Arguments as Node reads them: (url, options?, callback?) or (options, callback?).
function read(first, second, third) {
  const url = typeof first === 'string' ? new URL(first) : first;
  if (!(url instanceof URL)) return { options: { ...first }, callback: second };
  if (typeof second === 'function') return { options: urlToHttpOptions(url), callback: second };
  return { options: { ...urlToHttpOptions(url), ...second }, callback: third };
}

// Headers are an object, a flat array, or an array of pairs.
function withHost(headers, host) {
  const other = ([name]) => String(name).toLowerCase() !== 'host';
  if (!Array.isArray(headers)) {
    return { ...Object.fromEntries(Object.entries(headers ?? {}).filter(other)), Host: host };
  }
  if (Array.isArray(headers[0])) return [...headers.filter(other), ['Host', host]];
  const kept = headers.filter((_, at) => other([headers[at - (at % 2)]]));
  return [...kept, 'Host', host];
}

// An agent for TLS can't connect to the fake; a plain agent with the same limits on connections takes its place.
const standIns = new WeakMap();

function standIn(agent) {
  if (!agent) return agent;
  if (!standIns.has(agent)) {
    const { keepAlive, keepAliveMsecs, maxFreeSockets, maxSockets, maxTotalSockets, scheduling, options } = agent;
    const limits = { keepAlive, keepAliveMsecs, maxFreeSockets, maxSockets, maxTotalSockets, scheduling };
    const given = Object.entries({ ...limits, timeout: options?.timeout }).filter(([, value]) => value !== undefined);
    standIns.set(agent, new http.Agent(Object.fromEntries(given)));
  }
  return standIns.get(agent);
}

function wrapRequest(module, original, plain) {
  return function request(...given) {
    let reading;
    try {
      reading = read(...given);
    } catch {
      return original(...given); // so that the program gets Node's own error
    }
    const { options, callback } = reading;
    const hostname = options.hostname || options.host;
    const port = options.port || options.defaultPort || (module === https ? 443 : 80);
    if (options.socketPath || !isKnown(hostname, port)) return original(...given);
    const path = moved(hostname, options.path || '/');
    const kept = Object.entries(options).filter(([name]) => !WHITHER.has(name));
    return plain(
      {
        ...Object.fromEntries(kept),
        protocol: 'http:',
        hostname: fake.hostname.replace(/[[\]]/g, ''),
        port: fake.port || 80,
        path,
        headers: withHost(options.headers, canonical(hostname)),
        agent: standIn(options.agent ?? module.globalAgent),
      },
      callback,
    );
  };
}

function wrapGet(request) {
  return function get(...given) {
    const made = request(...given);
    made.end();
    return made;
  };
}

// Sockets and look-ups fail as they do where nobody listens: by an event, a callback or a promise.
function wrapConnect(original) {
  return function connect(...given) {
    const first = Array.isArray(given[0]) ? given[0][0] : given[0]; // Node's own modules pass normalized arguments
    const host = first !== null && typeof first === 'object' ? first.host : given[1];
    if (!isGuarded(host)) return original.apply(this, given);
    process.nextTick(() => this.destroy(refusal(host)));
    return this;
  };
}

function wrapLookUps(target, promised) {
  for (const name of Object.getOwnPropertyNames(target)) {
    const original = target[name];
    if (!/^(lookup|resolve)/.test(name) || name === 'lookupService' || typeof original !== 'function') continue;
    const wrapped = function (host, ...rest) {
      if (!isGuarded(host)) return original.call(this, host, ...rest);
      if (promised) return Promise.reject(refusal(host));
      process.nextTick(rest.at(-1), refusal(host));
    };
    Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(original)); // util.promisify looks at them
    target[name] = wrapped;
  }
}

if (!globalThis[INSTALLED]) {
  Object.defineProperty(globalThis, INSTALLED, { value: true });
  const plain = http.request;
  for (const module of [http, https]) {
    const request = wrapRequest(module, module.request, plain);
    Object.assign(module, { request, get: wrapGet(request) });
  }
  if (typeof fetch === 'function') globalThis.fetch = wrapFetch(fetch);
  net.Socket.prototype.connect = wrapConnect(net.Socket.prototype.connect);
  for (const target of [dns, dns.Resolver.prototype]) wrapLookUps(target, false);
  for (const target of [dns.promises, dns.promises.Resolver.prototype]) wrapLookUps(target, true);
  syncBuiltinESMExports(); // for `import { request } from 'node:https'`
}
