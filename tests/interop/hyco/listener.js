// Microsoft's hyco-ws, unmodified, as a listener: prints what it hears as JSON lines and answers it.
//
//   node listener.js ws://127.0.0.1:9080 actions [--reply TEXT]
//
// Key name and key come from AZURE_RELAY_KEY_NAME and AZURE_RELAY_SHARED_ACCESS_KEY.
// TEXT: `echo` (default) gives the frame back, `none` stays silent, anything else is the reply itself, in which
// {{data.action_id}} stands for that value of the received JSON, as JSON.
'use strict';

const WebSocket = require('hyco-ws');
const { keyName, key, option, print, address } = require('./common');

const [namespace, path] = process.argv.slice(2);
const reply = option('--reply', 'echo');

function fill(template, message) {
  return template.replace(/\{\{([\w.]+)\}\}/g, (_, name) => {
    const value = name.split('.').reduce((found, part) => (found == null ? undefined : found[part]), message);
    return JSON.stringify(value === undefined ? null : value);
  });
}

function answer(data) {
  if (reply === 'echo') return data;
  let message = null;
  try { message = JSON.parse(data); } catch (error) { /* not JSON: the template has nothing to take */ }
  return fill(reply, message);
}

const server = WebSocket.createRelayedServer(
  {
    server: address(WebSocket, namespace, path, 'listen'),
    token: () => WebSocket.createRelayToken(address(WebSocket, namespace, path, 'listen'), keyName, key),
  },
  (socket) => {
    socket.on('message', (data, flags) => {
      const binary = Boolean(flags && flags.binary);
      print({ type: 'message', binary, length: data.length, data: binary ? null : data });
      if (reply !== 'none') socket.send(answer(data), { binary });
    });
    socket.on('close', (code) => print({ type: 'closed', code }));
    socket.on('error', (error) => print({ type: 'rendezvous_error', message: String(error.message) }));
  });

server.on('listening', () => print({ type: 'listening' }));
server.on('error', (error) => print({ type: 'error', message: String(error.message) }));
process.on('SIGTERM', () => process.exit(0));
