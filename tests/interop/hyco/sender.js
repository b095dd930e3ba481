// Microsoft's hyco-ws, unmodified, as a sender: sends the lines of its input and prints the replies as JSON lines.
//
//   node sender.js ws://127.0.0.1:9080 actions [--each] [--parallel N] [--timeout SECONDS]
//
// Key name and key come from AZURE_RELAY_KEY_NAME and AZURE_RELAY_SHARED_ACCESS_KEY.
// All lines go over one rendezvous, each after the reply to the one before; with --each every line gets its own,
// N of them at once. Exits 0 if every line was answered.
'use strict';

const readline = require('readline');
const WebSocket = require('hyco-ws');
const { keyName, key, option, flag, print, address } = require('./common');

const [namespace, path] = process.argv.slice(2);
const timeout = Number(option('--timeout', '30')) * 1000;
const uri = address(WebSocket, namespace, path, 'connect');
let failed = 0;

function connect() {
  return new Promise((resolve, reject) => {
    const socket = WebSocket.relayedConnect(uri, WebSocket.createRelayToken(uri, keyName, key));
    socket.on('open', () => resolve(socket));
    socket.on('error', reject);
  });
}

function ask(socket, line) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no reply')), timeout);
    const done = (act, value) => { clearTimeout(timer); socket.removeAllListeners('message'); act(value); };
    socket.once('message', (data) => done(resolve, data));
    socket.once('close', (code) => done(reject, new Error(`closed ${code}`)));
    socket.send(line);
  });
}

async function exchange(socket, line, index) {
  try {
    const data = await ask(socket, line);
    print({ type: 'reply', index, data });
  } catch (error) {
    failed += 1;
    print({ type: 'error', index, message: String(error.message) });
  }
}

async function alone(line, index) {
  try {
    const socket = await connect();
    await exchange(socket, line, index);
    socket.close();
  } catch (error) {
    failed += 1;
    print({ type: 'error', index, message: String(error.message) });
  }
}

async function all(lines) {
  if (!flag('--each')) {
    const connecting = connect();
    connecting.catch(() => {}); // told at the first await; readline loses lines that come before anybody iterates
    let index = 0;
    for await (const line of lines) await exchange(await connecting, line, index++);
    (await connecting).close();
    return;
  }
  const waiting = [];
  for await (const line of lines) waiting.push(line);
  let next = 0;
  const work = async () => { while (next < waiting.length) { const index = next++; await alone(waiting[index], index); } };
  await Promise.all(Array.from({ length: Number(option('--parallel', '1')) }, work));
}

all(readline.createInterface({ input: process.stdin }))
  .catch((error) => { failed += 1; print({ type: 'error', message: String(error.message) }); })
  .then(() => { print({ type: 'done', failed }); process.exitCode = failed ? 1 : 0; });
