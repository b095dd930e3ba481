// What the scripts share.
'use strict';

function option(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
}

module.exports = {
  keyName: process.env.AZURE_RELAY_KEY_NAME,
  key: process.env.AZURE_RELAY_SHARED_ACCESS_KEY,
  option,
  flag: (name) => process.argv.includes(name),
  print: (event) => process.stdout.write(`${JSON.stringify(event)}\n`),
  // For a bare host name by the client's own helpers, which can only say wss://HOST:443; else of our own making.
  address: (client, namespace, path, action) => {
    if (namespace.startsWith('ws')) return `${namespace}/$hc/${path}?sb-hc-action=${action}`;
    return action === 'listen' ? client.createRelayListenUri(namespace, path) : client.createRelaySendUri(namespace, path);
  },
};
