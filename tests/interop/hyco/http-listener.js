// Microsoft's hyco-https, unmodified, as a listener for HTTP requests through the relay.
//
//   node http-listener.js ws://127.0.0.1:9080 actions [--bytes N]
//
// Answers with JSON that tells what came; with --bytes N it answers N bytes of text instead.
'use strict';

const https = require('hyco-https');
const { keyName, key, option, print, address } = require('./common');

const [namespace, path] = process.argv.slice(2);
const bytes = Number(option('--bytes', '0'));

const server = https.createRelayedServer(
  {
    server: address(https, namespace, path, 'listen'),
    token: () => https.createRelayToken(address(https, namespace, path, 'listen'), keyName, key),
  },
  (request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
    request.on('end', () => {
      const length = Buffer.concat(chunks).length;
      print({ type: 'request', method: request.method, url: request.url, length });
      response.setHeader('Content-Type', bytes ? 'text/plain' : 'application/json');
      response.setHeader('X-Listener', 'hyco-https');
      response.end(bytes ? 'x'.repeat(bytes) : JSON.stringify({ method: request.method, url: request.url, length }));
    });
  });

server.on('listening', () => print({ type: 'listening' }));
server.on('error', (error) => print({ type: 'error', message: String(error.message) }));
server.listen();
process.on('SIGTERM', () => process.exit(0));
