// Tokens of builds: they end while it continues, and it ends before they do.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BuildApp, startBuildApp } from './build-app.ts';

const HOUR = 3_600_000;

let app: BuildApp;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.parse('2026-01-02T03:04:05Z');
  app = await startBuildApp({ now: () => new Date(nowMs), config: { builds: { backends: ['embedded'], keep: '1h' } } });
});

afterEach(() => app.close());

test('that are revoked stop nobody: the build continues, and its name is unknown', async () => {
  const hold = app.holdBase();
  const answer = await app.build();
  await hold.asked;
  expect((await app.request(`/container-token/${answer.requestId}`, { method: 'DELETE' })).status).toBe(200);
  expect(await manifestOf(answer.targetImage)).toBe(404);
  hold.release();
  expect(await app.ended(answer.buildId)).toMatchObject({ status: 'succeeded' });
});

test('that expire stop nobody', async () => {
  const hold = app.holdBase();
  const answer = await app.build();
  await hold.asked;
  nowMs += 36 * HOUR;
  expect((await app.request(`/v1alpha2/container/${answer.requestId}/status`)).status).toBe(404);
  hold.release();
  expect(await app.ended(answer.buildId)).toMatchObject({ status: 'succeeded' });
});

test('serve what was built for as long as they live, whatever is kept of the build', async () => {
  const first = await app.build();
  await app.ended(first.buildId);
  nowMs += 35 * HOUR;
  const second = await app.build();
  expect(second).toMatchObject({ buildId: first.buildId, cached: true });
  nowMs += 35 * HOUR;
  expect((await app.request(`/v1alpha1/builds/${first.buildId}`)).status).toBe(404);
  expect(await manifestOf(second.targetImage)).toBe(200);
  expect(await app.status(second)).toMatchObject({ status: 'DONE', succeeded: true });
});

async function manifestOf(image: string): Promise<number> {
  const [, name, tag] = /^[^/]+\/(.+):(.+)$/.exec(image) ?? [];
  return (await app.request(`/v2/${name}/manifests/${tag}`)).status;
}
