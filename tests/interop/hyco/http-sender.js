// Microsoft's hyco-https, unmodified, as a sender of HTTP requests through the relay at https://HOST:443.
//
//   node http-sender.js HOST actions [--bytes N] [--count N]
//
// Posts N bytes and prints status and answer as a JSON line, count times at once, the token once as a header and once in
// the address, as the client's helpers do either.
'use strict';

const https = require('hyco-https');
const { keyName, key, option, print } = require('./common');

const [host, path] = process.argv.slice(2);
const body = 'x'.repeat(Number(option('--bytes', '0')));
const count = Number(option('--count', '1'));

function post(number) {
  const uri = https.createRelayHttpsUri(host, path);
  const token = https.createRelayToken(uri, keyName, key);
  const inHeader = number % 2 === 0;
  const target = new URL(inHeader ? uri : https.createRelayHttpsUri(host, path, token));
  const request = https.request({
    hostname: target.hostname,
    path: target.pathname + target.search,
    method: 'POST',
    headers: Object.assign({ 'Content-Length': body.length }, inHeader ? { ServiceBusAuthorization: token } : {}),
  }, (response) => {
    let answer = '';
    response.on('data', (chunk) => { answer += chunk; });
    response.on('end', () => print({ type: 'answer', number, status: response.statusCode, data: answer }));
  });
  request.on('error', (error) => print({ type: 'error', number, message: String(error.message) }));
  request.end(body);
}

for (let number = 0; number < count; number += 1) post(number);
