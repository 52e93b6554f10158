// Secrets stay where they belong: no canary gets into the log, an answer or the records.
import { afterEach, expect, test } from 'vitest';
import { HOST, makeTar, startApp, type TestApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';
import { readRecords } from './records.ts';

const credentials = { username: 'robot', password: 'canary-password' };
const basic = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
const content = await makeTar('canary', 'canary-content');
const data = content.toString('base64');
const access = { towerAccessToken: 'canary-access', towerRefreshToken: 'canary-refresh' };

let app: TestApp;
let answers: string[];

afterEach(() => app.close());

test('no secret is in the log or an answer, and no password in the records', async () => {
  answers = [];
  app = await startApp({
    credentials,
    registry: { requireToken: credentials },
    config: { layers: { allowPrivateAddresses: true } },
  });
  app.putImage();
  const signed = `${app.registry.url}/layer.tar?sig=canary-signature`;
  const body = (layers: readonly object[]) => ({
    ...access,
    containerImage: 'lab/library/app:1',
    containerConfig: { env: ['A=1'], layers },
  });

  app.registry.intercept((request, response) => {
    if (!request.url?.startsWith('/layer.tar')) return false;
    response.writeHead(200).end(content);
    return true;
  });
  const submitted = await submit(body([{ location: signed }, { location: `data:${data}` }]));
  const { requestId: token, targetImage } = JSON.parse(submitted);
  const name = targetImage.slice(HOST.length + 1).replace(/:[^:]*$/, '');
  await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
  for (const path of [`/v1alpha2/container/${token}`, `/container-token/${token}`]) await ask(path);

  await submit(body([{ location: `data:${data}`, gzipDigest: `sha256:${'0'.repeat(64)}` }]));
  await submit(body([{ location: `${signed}#canary-fragment`, gzipSize: 1 }]));
  await submit(body([{ location: signed.replace('//', '//me:canary-user@') }]));
  await submit(body([{ location: `ftp://host/canary-signature` }]));
  await submit({ ...body([]), containerImage: 'lab/library/none:1' });
  await submit('{"towerAccessToken":"canary-access"');
  for (const status of [404, 429, 500]) {
    app.registry.intercept((_request, response) => Boolean(response.writeHead(status).end('canary-words')));
    await submit(body([{ location: `${signed}&${status}` }]));
    await ask('/v2/lab/library/app/manifests/other');
  }

  const bearer = app.registry.requests.flatMap(
    ({ headers }) => headers.authorization?.match(/^Bearer (.*)/)?.[1] ?? [],
  );
  expect(bearer.length).toBeGreaterThan(0);
  const said = `${app.log.join('')}${answers.join('')}`;
  expect(said).toContain('request');
  for (const secret of ['canary', basic, data.slice(0, 40), ...bearer]) expect(said).not.toContain(secret);
  expect(app.log.join('')).not.toContain(token);

  const records = await readRecords(app);
  expect(records.includes(token)).toBe(true);
  for (const secret of [credentials.password, basic, 'canary-access', 'canary-refresh', ...bearer]) {
    expect(records.includes(secret)).toBe(false);
  }
});

async function submit(body: unknown): Promise<string> {
  return ask('/v1alpha2/container', { method: 'POST', body });
}

async function ask(path: string, init?: Parameters<TestApp['request']>[1]): Promise<string> {
  const response = await app.request(path, init);
  const text = await response.text();
  answers.push(JSON.stringify([...response.headers]), text);
  return text;
}
