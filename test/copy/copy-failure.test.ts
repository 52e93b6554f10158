// Copies that fail: for good or for now, where, and with nothing under the tag.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createCopy } from '../../src/copy/copy.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { sendError } from '../support/registry-answers.ts';
import { type Copying, copySpecOf, createCopying, createTelling } from './copying.ts';

let fixture: Copying;

beforeEach(async () => {
  fixture = await createCopying();
});

afterEach(() => fixture.close());

describe('a copy fails', () => {
  type Fail = (request: IncomingMessage, response: ServerResponse) => unknown;
  const cut: Fail = (_, response) =>
    response.writeHead(200, { 'content-length': 99_999 }).write('x', () => response.destroy());

  test.each<[string, string, Fail, object]>([
    ['for good, where a blob is not there', '/blobs/', (_, r) => sendError(r, 404, 'BLOB_UNKNOWN'), { kind: 'build' }],
    ['for good, where we may not', '/manifests/', (_, r) => sendError(r, 403, 'DENIED'), { kind: 'build' }],
    ['for now, where the source fails', '/blobs/', (_, r) => sendError(r, 500, 'UNKNOWN'), { kind: 'infrastructure' }],
    [
      'for now, where the source limits us',
      '/manifests/',
      (_, r) => sendError(r, 429, 'TOOMANYREQUESTS'),
      { kind: 'infrastructure' },
    ],
    ['for now, where a blob breaks off', '/blobs/', cut, { kind: 'infrastructure' }],
    ['for now, where a blob is another', '/blobs/', (_, r) => r.end('other bytes'), { kind: 'infrastructure' }],
  ])('%s', async (_, path, fail, expected) => {
    const image = fixture.putImage();
    fixture.registry.intercept((request, response) => {
      if (!request.url?.includes(path)) return false;
      fail(request, response);
      return true;
    });
    const error = await fixture.copy(image, 'local/mirror:1').catch(error => error);
    expect(error).toMatchObject({ name: 'BuildFailure', failure: expected });
    expect(error.failure.reason).toMatch(/^[^\n]{10,}$/);
    await expect(fixture.hosted.tags.resolve('local/mirror', '1')).rejects.toMatchObject({ status: 404 });
  });

  test('at the first blob that fails, and begins no other', async () => {
    const image = fixture.putImage();
    fixture.registry.intercept((request, response) => {
      if (request.url?.includes('/blobs/')) sendError(response, 404, 'BLOB_UNKNOWN');
      return request.url?.includes('/blobs/') === true;
    });
    const { events, options } = createTelling('local/mirror:1');
    const work = createCopy({ ...fixture.deps, maxBlobs: 1 })(copySpecOf(image, 'local/mirror:1'), options);
    await expect(work).rejects.toMatchObject({ name: 'BuildFailure' });
    expect(events.map(({ state }) => state)).toEqual(['started', 'failed']);
  });

  test('with the platform and the step', async () => {
    const image = fixture.putImage({ platforms: ['linux/arm64'] });
    fixture.registry.intercept((request, response) => {
      if (request.url?.includes('/blobs/')) sendError(response, 404, 'BLOB_UNKNOWN');
      return request.url?.includes('/blobs/') === true;
    });
    const error = await fixture.copy(image, 'local/mirror:1').catch(error => error);
    expect(error.failure).toMatchObject({
      platform: 'linux/arm64',
      step: expect.stringMatching(/^(layer|config) sha256:/),
    });
  });

  test.each([
    [
      'a platform that the source lacks',
      { platforms: ['linux/riscv64'] },
      'local/mirror:1',
      'no image for linux/riscv64',
    ],
    ['a target that names no tag', {}, `local/mirror@${digestOf(Buffer.of())}`, 'has no tag to push to'],
    ['a target in a registry that is closed', {}, 'ghcr.io/mirror:1', 'not configured'],
  ])('for good, for %s', async (_, more, target, reason) => {
    const error = await fixture.copy(fixture.putImage(), target, more).catch(error => error);
    expect(error).toMatchObject({
      name: 'BuildFailure',
      failure: { kind: 'build', reason: expect.stringContaining(reason) },
    });
  });

  test.each(['local/mirror', 'away/local/mirror'])(
    'to %s with the reason of its signal, and sends nothing more',
    async target => {
      const image = fixture.putImage();
      const stop = new AbortController();
      const { options } = createTelling(`${target}:1`, stop.signal);
      fixture.registry.intercept((request, response) => {
        if (!request.url?.includes('/blobs/')) return false;
        response.writeHead(200, { 'content-length': 99_999 }).write('x', () => stop.abort(new Error('enough')));
        return true;
      });
      await expect(createCopy(fixture.deps)(copySpecOf(image, target), options)).rejects.toThrow('enough');
      await expect(fixture.rootOf(target, '1')).rejects.toThrow();
    },
  );
});
