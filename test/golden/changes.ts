// What the golden images are put through: steps of the pure functions, requests for tokens, and rules.
import { digestOf } from '../../src/oci/digest.ts';
import type { Compression } from '../../src/oci/media-type.ts';
import { packPlain, tarOf } from './images.ts';

const CONFIG = {
  env: { SECOND: 'two', NEW: 'a b"c' },
  entrypoint: ['/bin/start', '--'],
  cmd: ['run'],
  workingDir: '/work',
  user: 'nobody',
  labels: { changed: 'yes', new: '\u00e9' },
  exposedPorts: ['443/tcp', '53/udp'],
  annotations: { 'com.example.note': 'golden' },
};

/** For the pure functions. */
export const STEPS: Readonly<Record<string, readonly object[]>> = {
  nothing: [{ augmentation: {} }],
  env: [{ augmentation: { env: CONFIG.env } }],
  'the whole config': [{ augmentation: CONFIG }],
  'layers of each compression': [{ augmentation: { layers: [layer('gzip'), layer('none'), layer('zstd')] } }],
  'a gzip layer, attestations kept': [{ augmentation: { layers: [layer('gzip')], attestations: 'keep' } }],
  'a layer of one platform': [{ augmentation: { layers: [{ ...layer('none'), platforms: ['linux/arm64'] }] } }],
  'one platform': [{ augmentation: { ...CONFIG, platforms: ['linux/amd64'] } }],
  'two platforms': [{ augmentation: { env: CONFIG.env, platforms: ['linux/arm64', 'linux/amd64'] } }],
  'steps of two rules and a token': [
    { rule: 'first', platforms: ['linux/amd64'], augmentation: { env: { A: '1', B: '1' }, layers: [layer('none')] } },
    { rule: 'second', augmentation: { env: { B: '2', C: '2' }, labels: { by: 'second' } } },
    { augmentation: { env: { C: '3' }, cmd: ['last'], layers: [layer('gzip')] } },
  ],
};

function layer(compression: Compression) {
  const tar = tarOf([{ name: 'layer', body: compression }]);
  const raw = packPlain(tar, compression);
  return { digest: digestOf(raw), size: raw.byteLength, diffId: digestOf(tar), compression };
}

const tool = tarOf([
  { name: 'bin/', type: '5' },
  { name: 'bin/tool', body: 'a tool' },
  { name: 'bin/alias', link: 'tool' },
]);
const plain = tarOf([{ name: 'plain', body: 'in the root' }]);

/** Bytes at places: by path on the registry's host. */
export const SERVED_LAYERS: Readonly<Record<string, Uint8Array>> = {
  '/layer.tar': plain,
  '/layer.tar.gz': packPlain(tool, 'gzip'),
};
/** A layer that a repository of the upstream has. */
export const LAYER_BLOB = packPlain(tarOf([{ name: 'opt/blob', body: 'of a registry' }]), 'gzip');

/** What of a request differs; `host` is the registry's. */
export function requestsAt(host: string): Readonly<Record<string, object>> {
  const { env, ...config } = CONFIG;
  const containerConfig = { ...config, env: Object.entries(env).map(([key, value]) => `${key}=${value}`) };
  const withLayers = (...layers: readonly object[]) => ({ containerConfig: { layers } });
  const data = (raw: Uint8Array) => `data:${Buffer.from(raw).toString('base64')}`;
  return {
    'nothing to change': {},
    'the whole config': { containerConfig },
    'an entrypoint': { containerConfig: { entrypoint: CONFIG.entrypoint } },
    'a layer in the request': withLayers({ location: data(packPlain(plain, 'gzip')) }),
    'a zstd layer in the request': withLayers({ location: data(packPlain(plain, 'zstd')) }),
    'a layer that crosses a link': withLayers({ location: data(tool) }),
    'layers at addresses': withLayers(
      ...Object.keys(SERVED_LAYERS).map(path => ({ location: `http://${host}${path}` })),
    ),
    'layers of a registry': withLayers(
      { location: `oci://docker.io/golden/layers@${digestOf(LAYER_BLOB)}` },
      {
        location: `docker://docker.io/v2/golden/layers/blobs/${digestOf(LAYER_BLOB)}`,
        platforms: ['linux/arm64'],
      },
    ),
    'an included image': { containerIncludes: ['docker.io/golden/included:1'] },
    'one platform': { containerPlatform: 'linux/amd64', containerConfig: { env: ['ONE=1'] } },
    'two platforms, a layer and an included image': {
      containerPlatform: 'linux/arm64,linux/amd64',
      containerConfig: { ...containerConfig, layers: [{ location: data(tool) }] },
      containerIncludes: ['docker.io/golden/included:1'],
    },
  };
}

/** Lists of rules; `directory` and `file` are layers of this machine. */
export function rulesAt({ host, directory, file }: { host: string; directory: string; file: string }) {
  const match = { image: 'docker.io/golden/*' };
  const everything = {
    name: 'everything',
    match,
    ...CONFIG,
    layers: [{ directory }, { file }, { url: `http://${host}/layer.tar` }, { image: 'docker.io/golden/included:1' }],
  };
  const sets: Readonly<Record<string, readonly object[]>> = {
    'a rule of env': [{ name: 'env', match, env: CONFIG.env }],
    'a rule of the whole config': [{ name: 'config', match, ...CONFIG }],
    'a layer of a directory': [{ name: 'directory', match, layers: [{ directory }] }],
    'a layer of a file, on some platforms': [
      { name: 'file', match: { ...match, platform: 'linux/arm*' }, layers: [{ file }], labels: { by: 'file' } },
    ],
    'a rule that matches none': [{ name: 'none', match: { image: 'docker.io/other/*' }, env: CONFIG.env }],
    'three rules': [
      { name: 'one', match, env: { A: '1', B: '1' }, layers: [{ directory, platforms: ['linux/amd64'] }] },
      { name: 'two', match: { image: '**:1', not: '**/image-2' }, env: { B: '2' }, entrypoint: ['two'] },
      everything,
    ],
  };
  return sets;
}
