// The OpenAPI document: what it says of routes is what there is, and its page loads nothing from elsewhere.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { startApp, type TestApp } from '../support/app.ts';
import { describedOperations, expectDescribed } from '../support/openapi.ts';
import { startServer } from '../support/server.ts';

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

/** The registry and its tokens, which other specifications describe; what builders read; the console with its forms; and the document itself. */
const ELSEWHERE = /^\/(?:console(?:\/|$)|view\/\w+\/:id\/|v2(?:\/|$)|token$|v1\/builds\/contexts|openapi)/;

test('every route of the API is in the document, and no other', async () => {
  const server = await startServer({});
  const routes = server.app.routes
    .filter(({ method, path }) => method !== 'ALL' && !ELSEWHERE.test(path))
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`);
  await server.close();
  expect([...new Set(routes)].filter(route => !describedOperations.includes(route))).toEqual([]);
  expect(describedOperations.filter(route => !routes.includes(route))).toEqual([]);
});

test('the document is of OpenAPI 3.1, with the fields that a submit takes and their limits', async () => {
  const response = await app.request('/openapi.json');
  const { openapi, paths } = z
    .object({ openapi: z.string(), paths: z.record(z.string(), z.record(z.string(), z.any())) })
    .parse(await response.json());
  expect(openapi).toBe('3.1.0');
  const text = JSON.stringify(paths['/v1alpha2/container']);
  for (const field of ['containerImage', 'containerConfig', 'buildContext', 'towerAccessToken', 'nameStrategy'])
    expect(text).toContain(`"${field}"`);
  expect(text).toContain('"maxItems":10');
  expect(text).toContain('"enum":["none","tagPrefix","imageSuffix"]');
});

test('the page loads nothing from elsewhere, and its policy would let nothing', async () => {
  for (const path of ['/openapi', '/openapi/page.js', '/openapi/page.css']) {
    const response = await app.request(path, { headers: { 'Sec-Fetch-Site': 'same-origin' } });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; script-src 'self'; style-src 'self'/,
    );
    expect(await response.text()).not.toMatch(/(?:src|href|url\(|import|fetch\()[^\n]*\/\/|innerHTML/);
  }
});

test('an answer that the document does not have is found', async () => {
  const wrong = Response.json({ id: 1 }, { status: 200 });
  await expect(expectDescribed('GET', '/v1alpha2/container/a/status', wrong)).rejects.toThrow(
    'a body that the document',
  );
  const teapot = Response.json({ message: 'a' }, { status: 418 });
  await expect(expectDescribed('GET', '/v1alpha2/container/a', teapot)).rejects.toThrow('answers 418');
});
