// schemathesis, which reads the OpenAPI document and asks all that it allows and what it does not: no answer is a 500, or one that is not
// in it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { type Server, startVeneer } from './support/daemons.ts';
import { type Killable, run } from './support/process.ts';

const missing = findMissing(['schemathesis']);
const AUTHORIZATION = { Authorization: basic('admin', 'password') };
const scanner = join(import.meta.dirname, '../support/scanner.ts');
const answerSchema = z.object({
  requestId: z.string(),
  buildId: z.string().optional(),
  scanId: z.string().optional(),
});
/** Nothing is to be refused because it is too much. */
const UNLIMITED = { known: 'none' };

/** What no schema says: rules across fields, and what registries have. */
const UNCHECKED = ['positive_data_acceptance', 'ignored_auth'];
/** One takes as long as its request says; the others are older names, or versions, of routes that are asked. */
const LEFT_OUT = '^/(v1/cache/verify|container-token|validate-creds|v1alpha2/metrics/.*)$';
/** For each route and mode, beside those that cover the schemas. */
const MAX_EXAMPLES = '3';

describe.skipIf(missing)(`schemathesis${missing ? ` (${missing})` : ''}`, () => {
  let folder = '';
  let registry: TestRegistry;
  let veneer: Server & Killable;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-schemathesis-'));
    registry = await startRegistry();
    const { content, root } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 2, family: 'oci' });
    registry.put(
      'library/app',
      [...content].map(([digest, each]) => ({ ...each, ...(digest === root.digest && { tags: ['1'] }) })),
    );
    const htpasswd = join(folder, 'htpasswd');
    await writeFile(htpasswd, htpasswdOf({ admin: 'password' }));
    const allow = ['pull', 'push', 'delete', 'build'];
    const grants = [
      { users: ['admin'], repositories: ['**'], allow },
      { users: ['admin'], allow: ['admin'] },
    ];
    veneer = await startVeneer(folder, registry.host, {
      ...{ access: { htpasswd, grants }, builds: { backends: ['embedded'], rate: UNLIMITED } },
      ...{ tokens: { rate: UNLIMITED }, pulls: { rate: UNLIMITED }, openUpstreams: false },
      scans: { command: [process.execPath, scanner, '{layout}'] },
      limits: { statusWait: '0s' },
    });
  });

  afterAll(async () => {
    await veneer?.stop();
    await registry?.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function submit(body: object): Promise<z.infer<typeof answerSchema>> {
    const response = await fetch(`http://${veneer.address}/v1alpha2/container`, {
      ...{ method: 'POST', headers: { ...AUTHORIZATION, 'Content-Type': 'application/json' } },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    expect(response.status, text).toBe(200);
    return answerSchema.parse(JSON.parse(text));
  }

  test('finds no 500, and no answer that the document does not have', async () => {
    const image = 'lab/library/app:1';
    const containerFile = Buffer.from('FROM scratch\nLABEL a=b\n').toString('base64');
    const submitted = [
      await submit({ containerImage: image, scanMode: 'async' }),
      await submit({ containerFile }),
      await submit({ containerImage: image, mirror: true, buildRepository: 'local/mirrored' }),
    ];
    const ids = submitted.flatMap(({ requestId, buildId, scanId }) =>
      [requestId, buildId, scanId].filter(id => id !== undefined),
    );
    const settings = join(folder, 'schemathesis.toml');
    await writeFile(
      settings,
      `[dictionaries.ids]
values = ${JSON.stringify(ids)}
[dictionaries.images]
values = ["${image}", "lab/library/none:1"]
[dictionaries.registries]
values = ["lab"]
# What this version does not do, and says so.
[checks]
not_a_server_error = { expected-statuses = ["2xx", "3xx", "4xx", 501] }
[parameters]
"path.id" = { dictionary = "ids", probability = 0.8 }
"path.registry" = { dictionary = "registries", probability = 0.8 }
"query.image" = { dictionary = "images", probability = 0.8 }
"body.containerImage" = { dictionary = "images", probability = 0.8 }
# Of a body null and empty count as absent, whatever type a field has.
[[operations]]
include-method = "POST"
checks = { negative_data_rejection = { enabled = false } }
`,
    );
    const report = await run(
      clientPath('schemathesis'),
      [
        ...['--config-file', settings, 'run', `http://${veneer.address}/openapi.json`],
        ...['--header', `Authorization:${AUTHORIZATION.Authorization}`, '--exclude-checks', UNCHECKED.join(',')],
        ...['--phases', 'coverage,fuzzing', '--max-examples', MAX_EXAMPLES],
        ...['--exclude-path-regex', LEFT_OUT, '--request-timeout', '30'],
        ...['--seed', '1', '--continue-on-failure', '--no-color', '--warnings', 'off'],
      ],
      { cwd: folder, timeoutMs: 220_000 },
    ).catch(({ stdout, stderr }) => `${stdout}${stderr}`);
    expect(report).not.toMatch(/^(?:FAILURES|ERRORS)|\d+ (?:failures?|errors?)\b/m);
    const tested = Number(/(\d+) generated/.exec(report)?.[1]);
    expect(tested, report).toBeGreaterThan(500);
  });
});
