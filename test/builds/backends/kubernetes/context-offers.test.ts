// Addresses of build contexts: anyone who has one gets the file, as long as it is offered, and nobody else.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { createContextOffers } from '../../../../src/builds/backends/kubernetes/archive.ts';
import { createErrorHandler } from '../../../../src/http/middleware/errors.ts';
import { createContextsApi } from '../../../../src/http/wave/builds-api.ts';

async function open() {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-offers-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, 'context');
  await writeFile(file, 'the context');
  const clock = { at: 1_000_000 };
  const serve = (key: string) => {
    const offers = createContextOffers({ key, now: () => new Date(clock.at) });
    const app = createContextsApi(offers);
    app.onError(createErrorHandler(pino({ enabled: false })));
    const get = async (path: string, method = 'GET') => {
      const response = await app.request(path, { method });
      return [response.status, response.status === 200 ? await response.text() : ''];
    };
    return { offers, get };
  };
  return { file, clock, serve };
}

test('the address gives the file, and a HEAD of it nothing', async () => {
  const { file, serve } = await open();
  const { offers, get } = serve('key');
  const { path } = offers.offer('job-1', file, 1000);
  expect(await get(path)).toEqual([200, 'the context']);
  expect(await get(path, 'HEAD')).toEqual([200, '']);
});

test('after a restart the same address leads to what is offered again', async () => {
  const { file, serve } = await open();
  const { path } = serve('key').offers.offer('job-1', file, 1000);
  const later = serve('key');
  expect(await later.get(path)).toEqual([404, '']);
  later.offers.offer('job-1', file, 1000);
  expect(await later.get(path)).toEqual([200, 'the context']);
});

test.each<[string, (path: string) => string]>([
  ['of another name', path => path.replace('job-1', 'job-2')],
  ['with another end', path => path.replace(/expires=\d+/, 'expires=9999999999999')],
  ['with another signature', path => path.replace(/signature=./, 'signature=A')],
  ['with a short signature', path => path.replace(/signature=.*/, 'signature=AAAA')],
  ['without a signature', path => path.replace(/\?.*/, '')],
])('an address %s is none', async (_, change) => {
  const { file, serve } = await open();
  const { offers, get } = serve('key');
  offers.offer('job-2', file, 1000);
  const { path } = offers.offer('job-1', file, 1000);
  // The first character of the signature may be the one that it is changed to.
  const changed = change(path) === path ? path.replace(/signature=./, 'signature=B') : change(path);
  expect(await get(changed)).toEqual([404, '']);
});

test('an address is none once its time is over, or the offer, or with another key', async () => {
  const { file, clock, serve } = await open();
  const { offers, get } = serve('key');
  const offer = offers.offer('job-1', file, 1000);
  const other = serve('another key');
  other.offers.offer('job-1', file, 1000);
  expect(await other.get(offer.path)).toEqual([404, '']);
  clock.at += 1000;
  expect(await get(offer.path)).toEqual([404, '']);
  clock.at -= 500;
  expect(await get(offer.path)).toEqual([200, 'the context']);
  offer.end();
  expect(await get(offer.path)).toEqual([404, '']);
});
