// A request goes to the service alone, and with it what shows who asks.
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { uploadBlob } from '../../../src/cli/sender.ts';
import { sendRequest } from '../../../src/cli/service/service.ts';
import { digestOf } from '../../../src/oci/digest.ts';

async function listen(location?: string) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    const isUpload = request.method === 'POST';
    response.writeHead(isUpload ? 202 : 404, location === undefined ? {} : { Location: location }).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: new URL(`http://127.0.0.1:${Object(server.address()).port}`), requests };
}

test('an upload that the service sends elsewhere does not follow, nor does the token', async () => {
  const other = await listen();
  const service = { ...(await listen(`${other.url}v2/local/builds/blobs/uploads/1`)), token: 'ada:secret' };
  const bytes = new TextEncoder().encode('x');
  await expect(
    uploadBlob(service, 'local/builds', { bytes: new Blob([bytes]), digest: digestOf(bytes) }),
  ).rejects.toThrow(`${service.url.host} refers to another host`);
  expect(service.requests).toHaveLength(2);
  expect(other.requests).toEqual([]);
});

test.each(['http://127.0.0.1:9/', '//x.example/', 'https://127.0.0.1/'])('%s is not the service', async path => {
  const service = { url: new URL('http://127.0.0.1:8080') };
  await expect(sendRequest(service, path)).rejects.toThrow('127.0.0.1:8080 refers to another host');
});

test('an abort is its reason, and no refusal', async () => {
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(sendRequest(await listen(), '/', { signal })).rejects.toThrow('enough');
});
