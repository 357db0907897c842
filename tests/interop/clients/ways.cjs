// Goes to a host by each way that Node has; prints, in order, what each came to: a status, or why it failed.
const dgram = require('node:dgram');
const dns = require('node:dns');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const net = require('node:net');
const tls = require('node:tls');
const { promisify } = require('node:util');

const [, , host, port] = process.argv;
const told = (error) => error.cause?.message ?? error.message;
const opened = (socket) => new Promise((resolve) => socket.on('error', (error) => resolve(told(error))));
const asked = (module, scheme) =>
  new Promise((resolve) => {
    try {
      module.get(`${scheme}://${host}:${port}/api/hello`, (reply) => resolve(reply.resume().statusCode)).on('error', (error) => resolve(told(error)));
    } catch (error) {
      resolve(told(error));
    }
  });
const ways = {
  fetch: () => fetch(`http://${host}:${port}/api/hello`).then((reply) => reply.status, told),
  http: () => asked(http, 'http'),
  https: () => asked(https, 'https'),
  net: () => opened(net.connect(port, host)),
  options: () => opened(net.connect({ host, port })),
  tls: () => opened(tls.connect({ host, port })),
  http2: () => opened(http2.connect(`http://${host}:${port}`)),
  dgram: () => new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.send('x', port, host, (error) => resolve(socket.close() && told(error)));
  }),
  lookup: () => promisify(dns.lookup)(host).catch(told),
  resolve: () => new Promise((resolve) => dns.resolve4(host, (error) => resolve(told(error)))),
  promises: () => dns.promises.resolve(host).catch(told),
  resolver: () => new dns.promises.Resolver().resolveCname(host).catch(told),
};

(async () => {
  for (const [name, way] of Object.entries(ways)) console.log(name, await way());
  process.exit(0);
})();
