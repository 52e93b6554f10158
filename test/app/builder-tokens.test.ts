// The token that a build pulls and pushes with is known as a build's, so that rules leave its pulls alone.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isBuild } from '../../src/access/access.ts';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createAccess } from '../../src/access/granted.ts';
import { createBuilderAccess } from '../../src/app/builder-access.ts';
import { specSchema } from '../../src/builds/spec.ts';
import { loadConfig } from '../../src/config/config.ts';
import { createMemory } from '../../src/memory.ts';
import { createUpstreams } from '../../src/upstream/upstreams.ts';
import { basic } from '../access/fixture.ts';
import { type Copying, createCopying } from '../copy/copying.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { PATIENT } from '../support/patience.ts';

const memory = createMemory();

let copying: Copying;
let directory: string;

beforeEach(async () => {
  copying = await createCopying();
  directory = await mkdtemp(join(tmpdir(), 'veneer-builder-'));
});

afterEach(async () => {
  await copying.close();
  await rm(directory, { recursive: true });
});

test('the credentials of a build are those of a build, also as the bearer token that they are exchanged for', async () => {
  const records = createMemoryStore();
  const now = () => new Date();
  const accessTokens = createAccessTokens({ records, now });
  const options = { grants: [], tokenTtlMs: 60_000 };
  const upstreams = createUpstreams({
    memory,
    entries: {},
    openUpstreams: false,
    allowPrivateUrls: false,
    timeouts: PATIENT,
    retries: 0,
  });
  const access = await createAccess({
    memory,
    ...{ options, records, now, listenHost: '127.0.0.1', publicHost: undefined, dataDir: directory },
    onFault: () => {},
  });
  const { findCredentials } = createBuilderAccess({
    config: loadConfig({ file: undefined, env: {}, flags: {} }),
    pulling: { ...copying.deps, upstreams },
    accessTokens,
    recipes: { covers: () => false },
    findListenHost: () => '127.0.0.1:8080',
  });
  const target = { repository: 'local/builds' };
  const platforms = ['linux/amd64'];
  const spec = specSchema.parse({ kind: 'containerfile', containerFile: 'FROM scratch', bases: {}, platforms, target });
  if (spec.kind !== 'containerfile') throw new Error(spec.kind);
  const { username = '', password = '' } = (await findCredentials(spec, 'local/builds:1')).get('127.0.0.1:8080') ?? {};
  const caller = await access.authenticate({ authorization: basic(username, password) });
  expect([caller.kind, isBuild(caller)]).toEqual(['access-token', true]);
  const asked = [{ repository: 'local/builds', verbs: ['pull' as const] }];
  const issued = await access.bearer?.issue({ credentials: { kind: 'password', username, password }, asked });
  const bearer = await access.authenticate({ authorization: `Bearer ${issued?.token}` });
  expect([bearer.kind, isBuild(bearer)]).toEqual(['bearer', true]);
  await access.close();
  await upstreams.close();
});
