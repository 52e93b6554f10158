// From a request to a spec: what is pinned, and what is refused before anything starts.
import { describe, expect, test } from 'vitest';
import type { BaseImages } from '../../src/builds/images.ts';
import { createPlan, listRead, type PlanDeps } from '../../src/builds/plan.ts';
import { type BuildRequest, InvalidBuild } from '../../src/builds/request.ts';
import { specSchema } from '../../src/builds/spec.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { parsePlatforms } from '../../src/oci/platform.ts';
import { createMemoryRegistry } from '../support/build-backends.ts';
import { generateImage } from '../support/images.ts';
import { openStore, tarOf, tarSource } from './context/fixture.ts';

const POLICY = { defaultPlatforms: parsePlatforms('linux/amd64') };
const REQUEST: BuildRequest = { containerFile: 'FROM alpine:3\nCOPY . /app\n', target: { repository: 'local/builds' } };
const alpine = digestOf(Buffer.from('alpine'));

test('pins platforms, bases and context, and fills in what nobody asked for', async () => {
  const context = tarSource(await tarOf({ name: 'a.txt', text: 'content' }));
  const spec = await plan({ ...REQUEST, context, platforms: parsePlatforms('linux/arm64/v8,amd64,aarch64') });
  expect(spec).toEqual({
    kind: 'containerfile',
    containerFile: REQUEST.containerFile,
    context: { digest: expect.stringMatching(/^sha256:/), size: 2048 },
    platforms: ['linux/arm64', 'linux/amd64'],
    bases: { 'alpine:3': alpine },
    args: {},
    labels: {},
    secrets: [],
    ssh: [],
    network: 'default',
    attestations: { sbom: false, provenance: 'none' },
    target: { repository: 'local/builds' },
  });
});

test('makes equal specs of equal requests, and specs that can be kept', async () => {
  const content = await openStore();
  const request = { ...REQUEST, args: { A: '1' }, labels: { 'org.example/a': 'ü "' }, stage: undefined };
  const files = { kind: 'files' as const, files: { 'a.txt': 'content' } };
  const tar = tarSource(await tarOf({ name: './a.txt', text: 'content', uid: 7 }));
  const first = await plan({ ...request, context: files }, { content });
  const second = await plan({ ...request, context: tar }, { content });
  expect(second).toEqual(first);
  expect(specSchema.parse(JSON.parse(JSON.stringify(first)))).toEqual(first);
});

test('takes over all that was asked for', async () => {
  const asked = {
    args: { VERSION: '1' },
    stage: 'app',
    labels: { a: 'b' },
    secrets: ['npm'],
    ssh: ['default'],
    network: 'none' as const,
    attestations: { sbom: true, provenance: 'max' as const },
    compression: { mode: 'zstd' as const, level: 3 },
    cacheRepository: 'local/cache',
    target: { repository: 'local/builds', tag: 'v1' },
    timeoutMs: 1000,
  };
  const containerFile = 'FROM alpine:3 AS app\nFROM never:1\n';
  expect(await plan({ ...asked, containerFile })).toMatchObject(asked);
});

test('uses the platforms of the policy where none are named', async () => {
  const policy = { defaultPlatforms: parsePlatforms('linux/arm/v7,linux/amd64') };
  expect((await plan(REQUEST, { policy })).platforms).toEqual(['linux/arm/v7', 'linux/amd64']);
});

describe('bases', () => {
  test('are resolved by the names that are written, variables expanded, for each platform', async () => {
    const asked: string[] = [];
    const containerFile = `# syntax=docker/dockerfile:1
ARG V=1
FROM alpine:$V AS a
FROM base-$TARGETARCH
COPY --from=a / /
COPY --from=tools:2 / /
`;
    const request = { ...REQUEST, containerFile, args: { V: '9' }, platforms: parsePlatforms('amd64,arm64') };
    const { bases } = await plan(request, { images: resolving(asked) });
    const expected = ['docker/dockerfile:1', 'alpine:9', 'base-amd64', 'base-arm64', 'tools:2'];
    expect(Object.keys(bases).sort()).toEqual([...expected].sort());
    expect(asked.sort()).toEqual([...expected].sort());
    expect([...listRead(request, POLICY)].sort()).toEqual([...expected].sort());
  });

  test('that move make another spec', async () => {
    const before = await plan(REQUEST);
    const after = await plan(REQUEST, {
      images: { ...UNREADABLE, resolve: async () => digestOf(Buffer.from('moved')) },
    });
    expect(after.bases).not.toEqual(before.bases);
  });

  test('are not asked for where the policy lets them move', async () => {
    const asked: string[] = [];
    const policy = { ...POLICY, pinBases: false };
    expect(await plan(REQUEST, { policy, images: resolving(asked) })).toMatchObject({ bases: {} });
    expect(asked).toEqual([]);
  });

  test.each([404, 401, 403, 400])('that cannot be had (%i) are named with their line', async status => {
    const images = failing(new RegistryError('MANIFEST_UNKNOWN', 'the registry says no', { status }));
    const error = await refusal({ ...REQUEST, containerFile: '\nFROM alpine:3\n' }, { images });
    expect(error.message).toBe('containerFile: line 2: the image "alpine:3" cannot be resolved: the registry says no');
  });

  test.each([429, 500, 502, 503, 504])('whose registry fails now (%i) are left out', async status => {
    const images = failing(new RegistryError('UNKNOWN', 'down', { status }));
    expect((await plan(REQUEST, { images })).bases).toEqual({});
  });

  test('that fail for a reason of ours fail the plan', async () => {
    await expect(plan(REQUEST, { images: failing(new TypeError('bug')) })).rejects.toThrow(TypeError);
  });

  describe('have to be there for the platforms of the build', () => {
    const registry = createMemoryRegistry();
    const put = (name: string, platforms: readonly string[], index = platforms.length > 1) =>
      registry.put(name, generateImage({ seed: 1, platforms, layers: 1, family: 'oci', index }));
    put('plain-amd64', ['linux/amd64']);
    put('plain-arm', ['linux/arm/v6']);
    put('index-amd64', ['linux/amd64'], true);
    put('both', ['linux/amd64', 'linux/arm64']);
    put('arms', ['linux/arm/v6', 'linux/arm/v7']);

    test.each([
      ['a manifest of another', 'FROM plain-amd64', 'arm64', 'plain-amd64', 'linux/arm64', 'linux/amd64'],
      ['an index of another', 'FROM index-amd64', 'arm64', 'index-amd64', 'linux/arm64', 'linux/amd64'],
      ['an index of others', 'FROM both', 's390x', 'both', 'linux/s390x', 'linux/amd64, linux/arm64'],
      ['a newer arm', 'FROM arms', 'linux/arm/v5', 'arms', 'linux/arm/v5', 'linux/arm/v6, linux/arm/v7'],
      ['one of several', 'FROM plain-amd64', 'amd64,arm64', 'plain-amd64', 'linux/arm64', 'linux/amd64'],
      ['--platform', 'FROM --platform=linux/arm64 plain-amd64', 'amd64', 'plain-amd64', 'linux/arm64', 'linux/amd64'],
      [
        'COPY --from',
        'FROM scratch\nCOPY --from=plain-amd64 / /',
        'arm64',
        'plain-amd64',
        'linux/arm64',
        'linux/amd64',
      ],
    ])('%s', async (_, containerFile, platforms, name, wanted, there) => {
      const request = { ...REQUEST, containerFile: `\n${containerFile}\n`, platforms: parsePlatforms(platforms) };
      const { message } = await refusal(request, { images: registry.images });
      expect(message).toMatch(/^containerFile: line [23]: /);
      expect(message.replace(/^containerFile: line .: /, '')).toBe(
        `${name} has no image for ${wanted}, only for ${there}`,
      );
    });

    test.each([
      ['a manifest of it', 'FROM plain-amd64', 'amd64'],
      ['an index with it', 'FROM both', 'arm64,amd64'],
      ['an older arm', 'FROM plain-arm', 'linux/arm/v7'],
      ['--platform', 'FROM --platform=linux/amd64 plain-amd64', 'arm64'],
      ['--platform of the machine that builds', 'FROM --platform=$BUILDPLATFORM plain-amd64', 'arm64'],
      ['a stage that is not needed', 'FROM plain-amd64 AS never\nFROM both', 'arm64'],
    ])('%s is enough', async (_, containerFile, platforms) => {
      const request = { ...REQUEST, containerFile: `${containerFile}\n`, platforms: parsePlatforms(platforms) };
      expect(Object.keys((await plan(request, { images: registry.images })).bases)).toHaveLength(1);
    });
  });

  test('are resolved a few at a time', async () => {
    let now = 0;
    let most = 0;
    const resolve = async () => {
      now += 1;
      most = Math.max(most, now);
      await new Promise(resolve => setImmediate(resolve));
      now -= 1;
      return alpine;
    };
    const containerFile = Array.from({ length: 20 }, (_, i) => `COPY --from=image${i} / /`).join('\n');
    await plan({ ...REQUEST, containerFile: `FROM scratch\n${containerFile}` }, { images: { ...UNREADABLE, resolve } });
    expect(most).toBe(4);
  });
});

describe('refuses', () => {
  const many = Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`A${i}`, '']));

  test.each<{ what: string; request: Partial<BuildRequest>; says: RegExp }>([
    {
      what: 'a Containerfile that cannot be read',
      request: { containerFile: 'FROM a\nRUM make' },
      says: /^containerFile: line 2: /,
    },
    { what: 'an empty Containerfile', request: { containerFile: '' }, says: /^containerFile: .*FROM/ },
    {
      what: 'a large Containerfile',
      request: { containerFile: `FROM a\n#${'x'.repeat(1 << 20)}` },
      says: /^containerFile: more than 1048576 bytes/,
    },
    { what: 'a stage that is not there', request: { stage: 'nope' }, says: /^containerFile: .*nope/ },
    { what: 'a bad name of an arg', request: { args: { 'A B': '1' } }, says: /^args: "A B" is not a valid name/ },
    { what: 'an arg that looks like an option', request: { args: { '--x': '1' } }, says: /^args: "--x"/ },
    { what: 'a NUL in an arg', request: { args: { A: '\0' } }, says: /^args: .*"A".*NUL/ },
    { what: 'a large arg', request: { args: { A: 'x'.repeat(33_000) } }, says: /^args: "A": more than 32768 bytes/ },
    { what: 'too many args', request: { args: many }, says: /^args: more than 128 items/ },
    { what: 'a bad label', request: { labels: { 'a=b': '1' } }, says: /^labels: "a=b"/ },
    { what: 'too many labels', request: { labels: many }, says: /^labels: more than 128 items/ },
    { what: 'a bad secret', request: { secrets: ['../x'] }, says: /^secrets: "..\/x" is not a valid id/ },
    { what: 'a secret with options', request: { secrets: ['a,src=/etc/shadow'] }, says: /^secrets: / },
    { what: 'a bad ssh id', request: { ssh: ['default=/etc'] }, says: /^ssh: / },
    { what: 'no platforms', request: { platforms: [] }, says: /^platforms: at least one/ },
    {
      what: 'a bad context',
      request: { context: { kind: 'files', files: { '../x': '' } } },
      says: /^build context: "..\/x"/,
    },
  ])('$what', async ({ request, says }) => {
    expect((await refusal({ ...REQUEST, ...request })).message).toMatch(says);
  });

  test('what no backend can build, before anything is looked up or kept', async () => {
    const asked: string[] = [];
    let isOpened = false;
    const context = {
      kind: 'tar' as const,
      open: () => {
        isOpened = true;
        return Promise.reject(new Error('opened'));
      },
    };
    const supports: PlanDeps['supports'] = async (platforms, spec) => {
      throw new InvalidBuild(`nobody builds ${spec.platforms.join()} (${platforms.length})`);
    };
    const error = await refusal({ ...REQUEST, context }, { supports, images: resolving(asked) });
    expect(error.message).toBe('nobody builds linux/amd64 (1)');
    expect([asked, isOpened]).toEqual([[], false]);
  });

  test('the same in a list of what would be read', () => {
    expect(() => listRead({ ...REQUEST, containerFile: 'x' }, POLICY)).toThrow(InvalidBuild);
    expect(() => listRead({ ...REQUEST, args: many }, POLICY)).toThrow(InvalidBuild);
  });
});

async function plan(request: BuildRequest, deps: Partial<PlanDeps> = {}) {
  const content = deps.content ?? (await openStore());
  return createPlan({ images: resolving([]), supports: async () => {}, policy: POLICY, ...deps, content })(request);
}

async function refusal(request: BuildRequest, deps: Partial<PlanDeps> = {}): Promise<InvalidBuild> {
  const outcome = await plan(request, deps).catch((error: unknown) => error);
  if (outcome instanceof InvalidBuild) return outcome;
  throw new Error('it was not refused', { cause: outcome });
}

/** What a test is about that does not look into a base. */
const UNREADABLE: Pick<BaseImages, 'open'> = {
  open: () => Promise.reject(new RegistryError('MANIFEST_UNKNOWN', 'nothing is to be read here')),
};

function resolving(asked: string[]): Pick<BaseImages, 'resolve' | 'open'> {
  return {
    ...UNREADABLE,
    async resolve(reference): Promise<Digest> {
      asked.push(reference);
      return alpine;
    },
  };
}

function failing(error: Error): Pick<BaseImages, 'resolve' | 'open'> {
  return { ...UNREADABLE, resolve: () => Promise.reject(error) };
}
