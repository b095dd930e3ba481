// Sends the requests it reads from standard input, a JSON list, over one association by dcmjs-dimse. Writes a JSON line
// for each response, and one for what else becomes of the association.
// usage: node client.js HOST PORT CALLING_AE CALLED_AE
const dimse = require('dcmjs-dimse');
const fs = require('fs');

dimse.log.setLevel('silent');
const { CEchoRequest, CFindRequest, NCreateRequest, NSetRequest, NGetRequest } = dimse.requests;

const print = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const make = {
  'C-ECHO': () => new CEchoRequest(),
  // Its own worklist query, or only the keys that are asked for.
  'C-FIND': ({ elements, stock, syntax }) => {
    const request = CFindRequest.createWorklistFindRequest(elements);
    if (!stock) request.setDataset(new dimse.Dataset(elements, syntax));
    return request;
  },
  'N-CREATE': ({ sopClass, instance }) => new NCreateRequest(sopClass, instance),
  'N-SET': ({ sopClass, instance }) => new NSetRequest(sopClass, instance),
  'N-GET': ({ sopClass, instance, attributes }) => new NGetRequest(sopClass, instance, attributes),
};

function requestOf(asked, index, client) {
  const request = make[asked.operation](asked);
  if (asked.operation.startsWith('N-') && asked.elements) request.setDataset(new dimse.Dataset(asked.elements, asked.syntax));
  let answers = 0;
  request.on('response', (response) => {
    const dataset = response.getDataset();
    print({
      index,
      status: response.getStatus(),
      command: response.getCommandDataset().getElements(),
      elements: dataset ? dataset.getElements() : null,
    });
    answers += 1;
    if (answers === asked.cancelAfter) client.cancel(request);
  });
  return request;
}

const [host, port, calling, called] = process.argv.slice(2);
const client = new dimse.Client();
JSON.parse(fs.readFileSync(0, 'utf8')).forEach((asked, index) => client.addRequest(requestOf(asked, index, client)));
client.on('associationAccepted', () => print({ event: 'accepted' }));
client.on('associationRejected', (reason) => print({ event: 'rejected', ...reason }));
client.on('associationReleased', () => print({ event: 'released' }));
client.on('abort', (reason) => print({ event: 'aborted', ...reason }));
client.on('networkError', (error) => print({ event: 'networkError', message: error.message }));
client.send(host, Number(port), calling, called, { connectTimeout: 20000, associationTimeout: 20000, pduTimeout: 20000 });
