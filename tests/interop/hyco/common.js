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
  // Of our own making: the clients' helpers can only say wss://HOST:443.
  address: (namespace, path, action) => `${namespace}/$hc/${path}?sb-hc-action=${action}`,
};
