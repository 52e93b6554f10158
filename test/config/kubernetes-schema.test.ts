// A backend of type `kubernetes`, and the map of node selectors, here and where Wave has it.
import { readFile } from 'node:fs/promises';
import { loadAllYaml } from '@kubernetes/client-node';
import { expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { configSchema } from '../../src/config/schema.ts';

const parse = (value: object) => configSchema({}).safeParse(value);
const backend = (fields: object = {}) => ({
  builds: { backends: [{ type: 'kubernetes', callbackUrl: 'http://veneer:8080', ...fields }] },
});
const WAVE = { 'linux/amd64': 'service=wave-build', 'linux/arm64': 'service=wave-build-arm64' };

function faults(value: object): readonly string[] {
  const { error } = parse(value);
  return error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) ?? [];
}

test('it needs no more than a way for pods to reach us', () => {
  const [found] = parse(backend()).data?.builds.backends ?? [];
  expect(found).toEqual({
    type: 'kubernetes',
    callbackUrl: new URL('http://veneer:8080'),
    jobs: 'each',
    security: 'auto',
    scheduleTimeoutMs: 300_000,
    nodeSelector: undefined,
    labels: {},
    annotations: {},
    tolerations: [],
    resources: { requests: { cpu: '250m', memory: '512Mi' }, limits: {} },
    storage: { kind: 'emptyDir', size: undefined },
  });
});

test('the type of a backend may be written as its kind', () => {
  const backends = [{ kind: 'buildkit', name: 'a' }, { type: 'buildah' }, { kind: 'embedded', type: 'embedded' }];
  const { data } = parse({ builds: { backends } });
  expect(data?.builds.backends.map(({ type }) => type)).toEqual(['buildkit', 'buildah', 'embedded']);
});

test('the map is read as Wave writes it, under either name, and where Wave has it', () => {
  const map = { 'linux/amd64': { service: 'wave-build' }, 'linux/arm64': { service: 'wave-build-arm64' } };
  const selectorOf = (value: object) => {
    const [found] = parse(value).data?.builds.backends ?? [];
    return found?.type === 'kubernetes' ? found.nodeSelector : undefined;
  };
  const wave = { build: { k8s: { 'node-selector': WAVE } } };
  expect(selectorOf(backend({ nodeSelector: WAVE }))).toEqual(map);
  expect(selectorOf(backend({ 'node-selector': WAVE }))).toEqual(map);
  expect(selectorOf({ ...backend(), wave })).toEqual(map);
  expect(selectorOf({ ...backend({ nodeSelector: { noarch: 'a=b' } }), wave })).toEqual({ noarch: { a: 'b' } });
});

test('several labels have commas between them, and may be empty', () => {
  const [found] = parse(backend({ nodeSelector: { default: 'a=b, example.com/c=' } })).data?.builds.backends ?? [];
  expect(found).toMatchObject({ nodeSelector: { default: { a: 'b', 'example.com/c': '' } } });
});

test.each([
  [
    'a key that is no platform',
    backend({ nodeSelector: { linux: 'a=b' } }),
    /"linux" is not a platform.*, or noarch, or default/,
  ],
  ['a map of nothing', backend({ nodeSelector: {} }), /nodeSelector: expected at least one platform/],
  [
    'a label without a value',
    backend({ nodeSelector: { arm64: 'service' } }),
    /"service" is not a list of labels; expected name=value/,
  ],
  ['a label with two values', backend({ nodeSelector: { arm64: 'a=b=c' } }), /"a=b=c" is not a list of labels/],
  ['a label that cannot be', backend({ nodeSelector: { arm64: 'a b=c' } }), /"a b=c" is not a list of labels/],
  ['a label that is too long', backend({ nodeSelector: { arm64: `a=${'b'.repeat(64)}` } }), /is not a list of labels/],
  ['a label that is ours', backend({ labels: { 'veneer/build': 'x' } }), /labels/],
  ['a path in the way of names', backend({ callbackUrl: 'http://veneer:8080/x' }), /callbackUrl: must have no path/],
  [
    'a kind that is another one than the type',
    backend({ kind: 'docker' }),
    /^builds\.backends\.0\.kind: is an alias of type, and contradicts it$/,
  ],
  ['a type that is none', { builds: { backends: [{ type: 'kaniko' }] } }, /mapping with `type` and its own keys/],
  [
    'a cache of a backend of its own',
    backend({ cache: 'registry.example/cache' }),
    /^builds\.backends\.0\.cache: all backends share the cache in builds\.cacheRepository$/,
  ],
  [
    'no way to reach us',
    { builds: { backends: [{ type: 'kubernetes' }] } },
    /builds\.backends\.0\.callbackUrl: required without publicUrl/,
  ],
  [
    'a quantity that is none',
    backend({ resources: { limits: { memory: '4 GB' } } }),
    /expected a quantity such as 500m, 2 or 4Gi/,
  ],
  [
    'a path out of the volume',
    backend({ storage: { claim: 'a', subPath: '../b' } }),
    /is not a path inside the volume|expected \{ emptyDir/,
  ],
  [
    'selectors of Wave that nobody asks',
    { wave: { build: { k8s: { 'node-selector': WAVE } } } },
    /wave: its node selectors have no effect/,
  ],
])('%s is a fault', (_, value, fault) => {
  expect(faults(value).join('\n')).toMatch(fault);
});

test('where there is a publicUrl, pods reach us by that', () => {
  expect(faults({ publicUrl: 'https://veneer.example', builds: { backends: [{ type: 'kubernetes' }] } })).toEqual([]);
});

test('the configuration that is deployed in a cluster is one', async () => {
  const objects = loadAllYaml(await readFile('deploy/kubernetes.yaml', 'utf8'));
  const [text] = objects.flatMap(object => ('data' in object ? Object.values(object.data ?? {}) : []));
  expect(parse(parseYaml(String(text))).data?.builds.backends).toMatchObject([{ type: 'kubernetes' }]);
});
