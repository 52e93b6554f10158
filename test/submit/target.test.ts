// Where a build goes: what a request names, what the names of packages make of it, and the right that it takes.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ANONYMOUS, type Caller } from '../../src/access/access.ts';
import { namesOfEntries } from '../../src/builds/packages/names.ts';
import type { RequestedBuild } from '../../src/submit/request.ts';
import { createTargets, type Targets } from '../../src/submit/target.ts';
import { type Copying, createCopying } from '../copy/copying.ts';

let fixture: Copying;

beforeAll(async () => {
  fixture = await createCopying();
});

afterAll(() => fixture.close());

/** What `ask` gives, and the rights that it asked for. */
async function ask<T>(ask: (targets: Targets, caller: Caller) => T) {
  const rights: string[] = [];
  const targets = createTargets({
    origins: fixture.deps.origins,
    access: {
      isAllowed: () => true,
      requireRight: (_, verb, repository) => void rights.push(`${verb} ${repository}`),
    },
    repository: 'local/builds',
    cacheRepository: undefined,
  });
  return { target: ask(targets, ANONYMOUS), rights };
}

const one = namesOfEntries(['bioconda::salmon=1.6.0']);
const two = namesOfEntries(['salmon=1.6.0', 'samtools']);

test.each<[string, RequestedBuild, typeof one | undefined, object]>([
  ['a Containerfile', {}, undefined, { repository: 'local/builds' }],
  ['packages', {}, two, { repository: 'local/builds', tagPrefix: 'salmon-1.6.0_samtools' }],
  ['packages by tag', { nameStrategy: 'tagPrefix' }, one, { repository: 'local/builds', tagPrefix: 'salmon-1.6.0' }],
  ['packages by no name', { nameStrategy: 'none' }, one, { repository: 'local/builds' }],
  [
    'one package by repository',
    { nameStrategy: 'imageSuffix' },
    one,
    { repository: 'local/builds/salmon', tagPrefix: '1.6.0' },
  ],
  ['packages by repository', { nameStrategy: 'imageSuffix' }, two, { repository: 'local/builds/salmon_samtools' }],
  ['a Containerfile by repository', { nameStrategy: 'imageSuffix' }, undefined, { repository: 'local/builds' }],
  ['a repository of its own', { buildRepository: 'local/team/app' }, undefined, { repository: 'local/team/app' }],
  [
    'another registry',
    { buildRepository: 'away/team/app' },
    one,
    { repository: 'away/team/app', tagPrefix: 'salmon-1.6.0' },
  ],
  [
    'a tag of its own',
    { buildRepository: 'local/team/app', buildTag: 'v1' },
    one,
    { repository: 'local/team/app', tag: 'v1', tagPrefix: 'salmon-1.6.0' },
  ],
])('%s goes to its repository, where the caller may build', async (_, build, names, target) => {
  const { repository } = Object(target);
  expect(await ask((targets, caller) => targets.ofBuild(caller, build, names))).toEqual({
    target,
    rights: [`build ${repository}`],
  });
});

test('a mirror keeps the name and tag of its source below the repository', async () => {
  const origin = fixture.deps.origins.locateName('away/team/app');
  const build = { mirror: true, buildRepository: 'local/mirrors' };
  expect(await ask((targets, caller) => targets.ofCopy(caller, build, { origin, tag: '3' }))).toEqual({
    target: { repository: 'local/mirrors/team/app', tag: '3' },
    rights: ['build local/mirrors/team/app'],
  });
});

test('a frozen image goes to the repository, under its id', async () => {
  const origin = fixture.deps.origins.locateName('away/team/app');
  expect(await ask((targets, caller) => targets.ofCopy(caller, { freeze: true }, { origin, tag: '3' }))).toEqual({
    target: { repository: 'local/builds' },
    rights: ['build local/builds'],
  });
});

test('a cache takes the right to build there', async () => {
  expect(await ask((targets, caller) => targets.ofCache(caller, { cacheRepository: 'away/cache' }))).toEqual({
    target: 'away/cache',
    rights: ['build away/cache'],
  });
  expect(await ask((targets, caller) => targets.ofCache(caller, {}))).toEqual({ rights: [] });
});
