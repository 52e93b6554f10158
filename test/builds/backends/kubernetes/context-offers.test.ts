// Addresses of build contexts: anyone who has one gets the file, as long as it is offered, and nobody else.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { createSharedOffers } from '../../../../src/app/builder-access.ts';
import { createContextOffers } from '../../../../src/builds/backends/kubernetes/archive.ts';
import { createDiskStore } from '../../../../src/content/disk.ts';
import { createErrorHandler } from '../../../../src/http/middleware/errors.ts';
import { createContextsApi } from '../../../../src/http/wave/builds-api.ts';
import { digestOf } from '../../../../src/oci/digest.ts';
import { createMemoryStore } from '../../../support/memory-records.ts';

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
  const { path } = await offers.offer('job-1', file, 1000);
  expect(await get(path)).toEqual([200, 'the context']);
  expect(await get(path, 'HEAD')).toEqual([200, '']);
});

test('a HEAD leaves nothing open of what is stored elsewhere', async () => {
  const closed: string[] = [];
  const files = {
    async put() {},
    open: async () => new ReadableStream<Uint8Array>({ cancel: () => void closed.push('body') }),
    async remove() {},
  };
  const offers = createContextOffers({ key: 'key', now: () => new Date(0), files });
  const { path } = await offers.offer('job-1', '', 1000);
  expect((await createContextsApi(offers).request(path, { method: 'HEAD' })).status).toBe(200);
  expect(closed).toEqual(['body']);
});

test('after a restart the same address leads to what is offered again', async () => {
  const { file, serve } = await open();
  const { path } = await serve('key').offers.offer('job-1', file, 1000);
  const later = serve('key');
  expect(await later.get(path)).toEqual([404, '']);
  await later.offers.offer('job-1', file, 1000);
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
  await offers.offer('job-2', file, 1000);
  const { path } = await offers.offer('job-1', file, 1000);
  // The first character of the signature may be the one that it is changed to.
  const changed = change(path) === path ? path.replace(/signature=./, 'signature=B') : change(path);
  expect(await get(changed)).toEqual([404, '']);
});

test('an address is none once its time is over, or the offer, or with another key', async () => {
  const { file, clock, serve } = await open();
  const { offers, get } = serve('key');
  const offer = await offers.offer('job-1', file, 1000);
  const other = serve('another key');
  await other.offers.offer('job-1', file, 1000);
  expect(await other.get(offer.path)).toEqual([404, '']);
  clock.at += 1000;
  expect(await get(offer.path)).toEqual([404, '']);
  clock.at -= 500;
  expect(await get(offer.path)).toEqual([200, 'the context']);
  await offer.end();
  expect(await get(offer.path)).toEqual([404, '']);
});

test('where processes share contexts, each answers for what another one offers, and keeps it until it is withdrawn', async () => {
  const { file, clock } = await open();
  const folder = await mkdtemp(join(tmpdir(), 'veneer-contexts-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const now = () => new Date(clock.at);
  const records = createMemoryStore({ now });
  const openOffers = async () => {
    const files = createSharedOffers(records, await createDiskStore({ directory: folder }));
    return { files, offers: createContextOffers({ key: 'key', now, files }) };
  };
  const [a, b] = [await openOffers(), await openOffers()];
  const get = async (path: string) => {
    const query = new URL(path, 'http://veneer').searchParams;
    const [expires, signature] = [query.get('expires') ?? '', query.get('signature') ?? ''];
    const context = await b.offers.open('job-1', { expires, signature });
    return context && Buffer.concat(await Array.fromAsync(context)).toString();
  };
  const { path, end } = await a.offers.offer('job-1', file, 1000);
  await rm(file);
  expect(await get(path)).toBe('the context');
  expect(await b.files.isOffered(digestOf(Buffer.from('the context')))).toBe(true);
  await end();
  expect(await get(path)).toBeUndefined();
  clock.at += 1000;
  expect(await b.files.isOffered(digestOf(Buffer.from('the context')))).toBe(false);
});
